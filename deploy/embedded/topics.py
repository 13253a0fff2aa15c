"""Make the topics and, on the embedded Kafka, the rights on them."""

from __future__ import annotations

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from deploy.embedded.configs import kafka_settings, topic_prefix
from deploy.embedded.folder import StateFolder
from deploy.embedded.place import Place
from deploy.embedded.rights import apply_rights
from deploy.embedded.users import ADMIN
from shared.errors import KafkaUnavailable
from shared.secretfiles import read_secret_file
from shared.settings import KafkaSettings

CONNECT_TIMEOUT_MS = 10_000


def ensure_topics(state: StateFolder, place: Place) -> None:
    """Make every topic that is missing, check the others; set the rights on an embedded Kafka.

    Raises KafkaUnavailable when Kafka does not answer.
    """
    settings = kafka_settings(state, place, ADMIN)
    if place.kafka is None:
        _apply_rights(settings, topic_prefix(place))


def _apply_rights(settings: KafkaSettings, prefix: str) -> None:
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
        apply_rights(admin, prefix)
    except KafkaError as error:
        raise KafkaUnavailable(f"Kafka's rights: {type(error).__name__}") from error
    finally:
        admin.close()
