"""What a service needs to be ready, and what it refuses to work with."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

import structlog

from serving.app import Readiness
from shared.database import Pool, postgres_faults
from shared.errors import AccessError, UnavailableError
from shared.kafka import Kafka
from shared.messages.topics import check_topics

ASK_AGAIN_S: Final = 1.0

log = structlog.get_logger(__name__)


def log_and_store_checks(readiness: Readiness, pool: Pool) -> None:
    """Make a PostgreSQL that answers a condition of being ready."""

    def postgres() -> str | None:
        with postgres_faults("checking"), pool.connection(timeout=2) as conn:
            conn.execute("SELECT 1")
        return None

    readiness.add("postgres", postgres)


class TopicCheck:
    """Compare the topics with what they must be, once, as soon as Kafka answers.

    One with other partitions loses the order of the log, one with a retention loses its beginning:
    the service then ends and says what to write instead, before it has worked with it for long.
    """

    def __init__(self, kafka: Kafka, names: Sequence[str]) -> None:
        self._kafka = kafka
        self._names = list(names)

    def run(self, stop: threading.Event) -> None:
        """Check, then wait for ``stop``. Raises UnknownSetting, naming topic and difference."""
        while not stop.is_set():
            try:
                self._check()
                break
            except (UnavailableError, AccessError) as error:
                log.info("topics.not_checked_yet", reason=error.message)
                stop.wait(ASK_AGAIN_S)
        stop.wait()

    def _check(self) -> None:
        with self._kafka.admin() as admin:
            for name in self._names:
                # Raises KafkaUnavailable where a topic is still to be made.
                admin.log_identity(self._kafka.topic(name))
            check_topics(admin, self._kafka.topic, self._names)
