"""Topics, their ends, and the identity of a log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from kafka import IsolationLevel, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec
from kafka.errors import (
    RetriableError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownBrokerIdError,
    UnknownTopicOrPartitionError,
)

from shared.errors import KafkaUnavailable, UnknownSetting
from shared.kafka.connecting import connecting
from shared.kafka.faults import kafka_faults

RETRY_S: Final = 0.05


@dataclass(frozen=True)
class LogIdentity:
    """Which log it is: another topic of the same name is another log."""

    cluster_id: str
    topic_id: str


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it must be. ``configs`` are checked to the letter where the topic exists."""

    name: str
    partitions: int = 1
    configs: Mapping[str, str] = field(default_factory=dict)


class LogAdmin:
    """Create, check and look at topics."""

    def __init__(self, options: dict[str, Any], replication_factor: int) -> None:
        self._options = options
        self._replication_factor = replication_factor
        self._patience_s = options["bootstrap_timeout_ms"] / 1000
        with connecting("connecting", options) as settings:
            self._client = KafkaAdminClient(**settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ensure_topic(self, spec: TopicSpec) -> None:
        """Create the topic, or check the one that is there.

        Raises UnknownSetting when it has other partitions or settings than it must have.
        """
        if not self._describe(spec.name):
            wanted = {
                "num_partitions": spec.partitions,
                "replication_factor": self._replication_factor,
                "configs": dict(spec.configs),
            }
            with kafka_faults(f"creating the topic {spec.name}"):
                # Where another process of ours was faster, the topic is checked like any other.
                with suppress(TopicAlreadyExistsError):
                    self._client.create_topics({spec.name: wanted})
                self._client.wait_for_topics([spec.name])
        self.check_topic(spec)

    def check_topic(self, spec: TopicSpec) -> None:
        """Compare a topic with what it must be. Raises UnknownSetting, naming the difference."""
        found = self._describe(spec.name)
        if not found:
            raise UnknownSetting(
                f"the topic {spec.name} does not exist",
                hint="Correct kafka.topic_prefix, or let `secryn up` or `secryn place provision` "
                "make the topics.",
            )
        partitions = len(found["partitions"])
        if partitions != spec.partitions:
            raise UnknownSetting(
                f"the topic {spec.name} has {partitions} partitions, it must have {spec.partitions}",
                hint="Partitions cannot be taken away: name another kafka.topic_prefix, or delete "
                "the topic if nothing is in it that you need.",
            )
        if not spec.configs:
            return
        with kafka_faults(f"reading the settings of {spec.name}"):
            resource = ConfigResource(
                ConfigResourceType.TOPIC, spec.name, dict.fromkeys(spec.configs)
            )
            answer = self._client.describe_configs([resource], config_filter="all")
        present = answer["topic"][spec.name]
        for name, value in spec.configs.items():
            actual = present[name]["value"]
            if actual != value:
                raise UnknownSetting(
                    f"the topic {spec.name} has {name}={actual}, it must be {value}",
                    hint=f"kafka-configs.sh --alter --entity-type topics --entity-name {spec.name} "
                    f"--add-config {name}={value}",
                )

    def _describe(self, topic: str) -> dict[str, Any] | None:
        with kafka_faults(f"describing {topic}"):
            found = self._client.describe_topics([topic])
            if any(entry["error_code"] == TopicAuthorizationFailedError.errno for entry in found):
                raise TopicAuthorizationFailedError(topic)
        return next((entry for entry in found if entry["error_code"] == 0), None)

    def log_identity(self, topic: str) -> LogIdentity:
        """Return which log ``topic`` is. Raises KafkaUnavailable when there is none."""
        found = self._describe(topic)
        if found is None:
            raise KafkaUnavailable(f"the topic {topic} does not exist")
        with kafka_faults("describing the cluster"):
            cluster_id = self._client.describe_cluster()["cluster_id"]
        return LogIdentity(str(cluster_id), str(found["topic_id"]))

    def high_watermark(self, topic: str) -> int:
        """Return the end of the log, open transactions included: nothing acknowledged is behind it."""
        return self._offset(f"reading the end of {topic}", topic, OffsetSpec.LATEST)

    def last_stable_offset(self, topic: str) -> int:
        """Return the end that a read_committed reader sees: an open transaction holds it back."""
        committed = IsolationLevel.READ_COMMITTED
        return self._offset(
            f"reading the stable end of {topic}", topic, OffsetSpec.LATEST, committed
        )

    def beginning_offset(self, topic: str) -> int:
        """Return the first offset that the log still has."""
        return self._offset(f"reading the beginning of {topic}", topic, OffsetSpec.EARLIEST)

    def _offset(
        self, doing: str, topic: str, spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> int:  # fmt: skip
        """Ask the partition's leader; one that moves is waited for, as a consumer does."""
        partition, deadline = TopicPartition(topic, 0), time.monotonic() + self._patience_s
        with kafka_faults(doing):
            while True:
                try:
                    found = self._client.list_partition_offsets({partition: spec}, isolation)
                    return int(found[partition].offset)
                except (RetriableError, UnknownBrokerIdError) as error:
                    if isinstance(error, UnknownTopicOrPartitionError) and not self._describe(
                        topic
                    ):
                        # Whoever may not see a topic is told that there is none: that said why.
                        raise
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(RETRY_S)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
