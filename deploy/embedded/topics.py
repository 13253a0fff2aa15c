"""Make the topics and, on the embedded Kafka, the rights on them."""

from __future__ import annotations

import hashlib

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from deploy.embedded.configs import kafka_settings
from deploy.embedded.folder import StateFolder
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
    kafka = Kafka(settings, "secryn-up")
    with kafka.admin() as admin:
        ensure_every_topic(admin, kafka.topic)
    if place.kafka is None:
        _apply_rights(settings)


def provisioning(prefix: str) -> str:
    """Return a digest of all that ``ensure_topics`` would make: another one, and it must run."""
    wanted = repr((prefix, sorted(TOPICS.items()), TOPIC_RIGHTS, USERS))
    return hashlib.sha256(wanted.encode()).hexdigest()


def _apply_rights(settings: KafkaSettings) -> None:
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
        apply_rights(admin, settings.topic_prefix)
    except KafkaError as error:
        raise KafkaUnavailable(f"Kafka's rights: {type(error).__name__}") from error
    finally:
        admin.close()
