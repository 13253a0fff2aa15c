"""The ends of a log are asked of its leader; one that moves is waited for."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import errors
from kafka.structs import OffsetAndTimestamp

from shared.errors import AccessError, KafkaUnavailable
from shared.kafka import LogAdmin, admin


class Broker:
    """A cluster's answers, one after another; the last one stays."""

    def __init__(self, *answers: int | Exception, topic_error: int = 0) -> None:
        self._answers = list(answers)
        self._topic_error = topic_error
        self.asked = 0

    def list_partition_offsets(self, specs: dict[Any, Any], _: object) -> dict[Any, Any]:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return dict.fromkeys(specs, OffsetAndTimestamp(answer, -1, -1))

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"name": name, "error_code": self._topic_error} for name in names]

    def close(self) -> None:
        """Have nothing open."""


def asking(broker: Broker, monkeypatch: pytest.MonkeyPatch, patience_s: float = 5) -> LogAdmin:
    monkeypatch.setattr(admin, "KafkaAdminClient", lambda **_: broker)
    return LogAdmin({"bootstrap_timeout_ms": int(patience_s * 1000)}, 1)


MOVING = [
    errors.NotLeaderForPartitionError(), errors.LeaderNotAvailableError(),
    errors.OffsetNotAvailableError(), errors.UnknownBrokerIdError(), errors.NodeNotReadyError(),
    errors.UnknownTopicOrPartitionError(),
]  # fmt: skip


@pytest.mark.parametrize("error", MOVING, ids=lambda error: type(error).__name__)
def test_a_leader_that_moves_is_waited_for(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(error, error, 7)
    with asking(broker, monkeypatch) as client:
        assert client.last_stable_offset("log") == 7
    assert broker.asked == 3


@pytest.mark.parametrize("error", MOVING, ids=lambda error: type(error).__name__)
def test_one_that_stays_away_is_waited_for_no_longer_than_one_is_patient(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(error)
    with (
        asking(broker, monkeypatch, 0.2) as client,
        pytest.raises(KafkaUnavailable, match="reading the end of log"),
    ):
        client.high_watermark("log")
    assert 2 < broker.asked < 10


@pytest.mark.parametrize(
    ("topic_error", "told"),
    [
        (errors.UnknownTopicOrPartitionError.errno, KafkaUnavailable),
        (errors.TopicAuthorizationFailedError.errno, AccessError),
    ],
    ids=["there is none", "nobody may see it"],
)
def test_a_topic_that_is_not_there_is_told_at_once(
    topic_error: int, told: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(errors.UnknownTopicOrPartitionError(), topic_error=topic_error)
    with asking(broker, monkeypatch) as client, pytest.raises(told):
        client.beginning_offset("log")
    assert broker.asked == 1
