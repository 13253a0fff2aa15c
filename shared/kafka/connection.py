"""Who and where we are to Kafka; makes the producers, readers and consumers of a process."""

from __future__ import annotations

from typing import Any

from shared.kafka.admin import LogAdmin
from shared.kafka.consumer import GroupConsumer
from shared.kafka.producer import Producer, TransactionalProducer
from shared.kafka.reader import LogReader
from shared.secretfiles import read_secret_file
from shared.settings import KafkaSettings

# Who asks hears soon that Kafka is away, and a service that is told to stop does.
PATIENCE_S = 10.0


class Kafka:
    """Settings of one process for Kafka. Nothing connects before a part is asked for."""

    def __init__(
        self, settings: KafkaSettings, client_id: str, patience_s: float = PATIENCE_S
    ) -> None:
        self.settings = settings
        self.client_id = client_id
        self._patience_s = patience_s

    def __repr__(self) -> str:
        return f"Kafka({self.settings.bootstrap!r}, {self.client_id!r})"

    def within(self, patience_s: float) -> Kafka:
        """Return the same for one who waits no longer than that for a Kafka that is away."""
        return Kafka(self.settings, self.client_id, patience_s)

    def topic(self, name: str) -> str:
        """Return the full name of a topic: with the prefix of this instance."""
        return self.settings.topic_prefix + name

    def _options(self) -> dict[str, Any]:
        settings = self.settings
        options: dict[str, Any] = {
            "bootstrap_servers": settings.bootstrap.split(","),
            "client_id": self.client_id,
            "security_protocol": settings.security_protocol,
            "reconnect_backoff_max_ms": 1000,
            "bootstrap_timeout_ms": int(self._patience_s * 1000),
        }
        if settings.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = settings.sasl_mechanism
            options["sasl_plain_username"] = settings.username
            if settings.password_file is not None:
                password = read_secret_file(settings.password_file).decode("utf-8")
                options["sasl_plain_password"] = password
        if settings.security_protocol.endswith("SSL"):
            options["ssl_cafile"] = _path(settings.tls_ca_file)
            options["ssl_certfile"] = _path(settings.tls_cert_file)
            options["ssl_keyfile"] = _path(settings.tls_key_file)
        return options

    def admin(self) -> LogAdmin:
        """Connect an administrator's client. Raises KafkaUnavailable."""
        return LogAdmin(self._options(), self.settings.replication_factor)

    def producer(self) -> Producer:
        """Connect an idempotent producer. Raises KafkaUnavailable."""
        return Producer(self._options())

    def transactional_producer(self, transactional_id: str) -> TransactionalProducer:
        """Connect a producer that fences every other with this id. Raises KafkaUnavailable."""
        return TransactionalProducer(self._options(), transactional_id)

    def log_reader(
        self, topic: str, partition: int = 0, isolation: str = "read_committed"
    ) -> LogReader:
        """Connect a reader of one partition, without a group. Raises KafkaUnavailable."""
        return LogReader(self._options(), topic, partition, isolation)

    def group_consumer(self, topics: list[str], group_id: str) -> GroupConsumer:
        """Connect a member of a consumer group. Raises KafkaUnavailable."""
        return GroupConsumer(self._options(), topics, group_id)


def _path(path: object) -> str | None:
    return None if path is None else str(path)
