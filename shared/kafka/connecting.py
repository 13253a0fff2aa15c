"""Connect clients of Kafka so that one that cannot leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from kafka.net.compat import KafkaNetClient

from shared.kafka.faults import kafka_faults


@contextmanager
def connecting(doing: str, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield ``options`` for a client that connects while it is made, in the block.

    One that fails does not close what it opened: a thread and four descriptors each time, and a
    Kafka that is away is tried for as long as it is. Raises KafkaUnavailable, AccessError.
    """
    with kafka_faults(doing), ExitStack() as opened:

        def net_client(**settings: Any) -> KafkaNetClient:
            client = KafkaNetClient(**settings)
            opened.callback(client.close)
            return client

        yield {**options, "kafka_client": net_client}
        opened.pop_all()
