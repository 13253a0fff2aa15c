"""Make the topics and, on a Kafka of ours, the users and the rights on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from deploy.embedded.configs import kafka_settings
from deploy.embedded.folder import StateFolder
from deploy.embedded.logins import ensure_logins
from deploy.embedded.place import Place
from deploy.embedded.rights import TOPIC_RIGHTS, apply_rights
from deploy.embedded.users import ADMIN, USERS
from shared.errors import KafkaUnavailable
from shared.kafka import Kafka
from shared.messages.topics import TOPICS
from shared.messages.topics import ensure_topics as ensure_every_topic
from shared.secretfiles import read_secret_file
from shared.settings import KafkaSettings

CONNECT_TIMEOUT_MS = 10_000


def ensure_topics(state: StateFolder, place: Place) -> None:
    """Make every topic that is missing, check the others; set the rights on an embedded Kafka.

    Raises KafkaUnavailable when Kafka does not answer, UnknownSetting when a topic is not as it
    must be.
    """
    settings = kafka_settings(state, place, ADMIN)
    _ensure_topics(settings)
    if place.kafka is None:
        with _administrator(settings) as admin:
            apply_rights(admin, settings.topic_prefix)


def provision_kafka(settings: KafkaSettings, passwords: Mapping[str, str]) -> None:
    """Make users (by name, with their passwords), topics and rights; ``settings`` are an admin's.

    For a Kafka whose folder was formatted without users. Raises as ``ensure_topics`` does.
    """
    with _administrator(settings) as admin:
        ensure_logins(admin, passwords)
        apply_rights(admin, settings.topic_prefix)
    _ensure_topics(settings)


def provisioning(prefix: str) -> str:
    """Return a digest of all that ``ensure_topics`` would make: another one, and it must run."""
    wanted = repr((prefix, sorted(TOPICS.items()), TOPIC_RIGHTS, USERS))
    return hashlib.sha256(wanted.encode()).hexdigest()


def _ensure_topics(settings: KafkaSettings) -> None:
    kafka = Kafka(settings, "secryn-up")
    with kafka.admin() as admin:
        ensure_every_topic(admin, kafka.topic)


@contextmanager
def _administrator(settings: KafkaSettings) -> Iterator[KafkaAdminClient]:
    """Connect a client for what no service may do. Raises KafkaUnavailable."""
    assert settings.password_file is not None
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=settings.bootstrap,
            security_protocol=settings.security_protocol,
            sasl_mechanism=settings.sasl_mechanism,
            sasl_plain_username=settings.username,
            sasl_plain_password=read_secret_file(settings.password_file).decode(),
            bootstrap_timeout_ms=CONNECT_TIMEOUT_MS,
        )
    except KafkaError as error:
        raise KafkaUnavailable(f"Kafka refuses its admin: {type(error).__name__}") from error
    try:
        yield admin
    except KafkaError as error:
        raise KafkaUnavailable(f"Kafka's users and rights: {type(error).__name__}") from error
    finally:
        admin.close()
