"""Every topic of the system, once: its settings, who writes it, who reads it.

Names are without the prefix of the instance (``KafkaSettings.topic_prefix``).
"""

from __future__ import annotations

from collections.abc import Callable

from shared.kafka import LogAdmin, TopicSpec

INSTANCE_EVENTS = "instance.events"
BACKUP_COMMANDS = "backup.commands"
BACKUP_EVENTS = "backup.events"
RESTORE_COMMANDS = "restore.commands"
RESTORE_EVENTS = "restore.events"
AUDIT = "audit"
DEAD_LETTER_SUFFIX = ".dead"

_KEPT_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_LOG = _KEPT_FOR_EVER | {"message.timestamp.type": "LogAppendTime"}

# One partition each: an instance has one total order, and an audit chain one sequence.
TOPICS: dict[str, dict[str, str]] = {
    INSTANCE_EVENTS: _LOG,
    BACKUP_COMMANDS: {},
    BACKUP_COMMANDS + DEAD_LETTER_SUFFIX: {},
    BACKUP_EVENTS: _KEPT_FOR_EVER,
    RESTORE_COMMANDS: {},
    RESTORE_COMMANDS + DEAD_LETTER_SUFFIX: {},
    RESTORE_EVENTS: _KEPT_FOR_EVER,
    AUDIT: _KEPT_FOR_EVER,
}


def ensure_topics(admin: LogAdmin, full_name: Callable[[str], str]) -> None:
    """Create what is missing and check the rest. Raises UnknownSetting, naming the difference."""
    for name, configs in TOPICS.items():
        admin.ensure_topic(TopicSpec(full_name(name), 1, configs))


def check_topics(admin: LogAdmin, full_name: Callable[[str], str], names: list[str]) -> None:
    """Check that ``names`` are as they must be. Raises UnknownSetting."""
    for name in names:
        admin.check_topic(TopicSpec(full_name(name), 1, TOPICS[name]))
