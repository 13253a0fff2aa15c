"""Who may read and write which topic: one table, applied to the embedded Kafka.

Nothing is allowed that is not here: the broker denies what no rule allows. An operator who
brings an own Kafka sets the same rules there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)

from deploy.embedded.users import USERS
from shared.errors import StackError


@dataclass(frozen=True)
class TopicRights:
    """The users that may write and read one topic (named without its prefix)."""

    topic: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]


TOPIC_RIGHTS = (
    TopicRights("instance.events", ("platform", "restore", "backup"), USERS),
    TopicRights("backup.commands", ("platform", "restore"), ("backup",)),
    TopicRights("backup.commands.dead", ("backup",), ("backup", "platform")),
    TopicRights("backup.events", ("backup",), ("backup", "restore", "platform")),
    TopicRights("restore.commands", ("platform",), ("restore",)),
    TopicRights("restore.commands.dead", ("restore",), ("restore", "platform")),
    TopicRights("restore.events", ("restore",), ("restore", "backup", "platform")),
    TopicRights("audit", ("backup", "restore"), ("backup", "restore", "platform")),
)


def rules(prefix: str) -> Iterator[ACL]:
    """Yield every rule for the topics that begin with ``prefix``.

    A user's consumer groups and transactional ids begin with the prefix and its own name.
    """
    for rights in TOPIC_RIGHTS:
        topic = ResourcePattern(ResourceType.TOPIC, prefix + rights.topic)
        for user in rights.writers:
            yield _allow(user, ACLOperation.WRITE, topic)
        for user in rights.readers:
            yield _allow(user, ACLOperation.READ, topic)
        for user in dict.fromkeys(rights.writers + rights.readers):
            yield _allow(user, ACLOperation.DESCRIBE_CONFIGS, topic)
    for user in USERS:
        for kind, operation in (
            (ResourceType.GROUP, ACLOperation.READ),
            (ResourceType.TRANSACTIONAL_ID, ACLOperation.WRITE),
        ):
            own = ResourcePattern(kind, f"{prefix}{user}", ACLResourcePatternType.PREFIXED)
            yield _allow(user, operation, own)


def _allow(user: str, operation: ACLOperation, resource: ResourcePattern) -> ACL:
    return ACL(
        principal=f"User:{user}",
        host="*",
        operation=operation,
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=resource,
    )


def apply_rights(admin: KafkaAdminClient, prefix: str) -> None:
    """Make every rule exist; one that exists stays. Raises StackError when one is refused."""
    answer = admin.create_acls(list(rules(prefix)))
    if answer["failed"]:
        raise StackError(f"Kafka refused {len(answer['failed'])} of the rights")
