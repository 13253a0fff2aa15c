"""The client of Recent Operations."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from shared.api.operations import Operation, OperationChanges, OperationPage
from shared.client.http import ServiceConnection
from shared.errors import UnavailableError

WAIT_S = 20.0
PAUSE_S = 1.0


class OperationsClient:
    """Read the list of operations, and follow it."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.connection = connection

    def list(self, **asked: object) -> OperationPage:
        """Return a page, the newest first; with ``position``, where to follow it from.

        ``asked`` are the filters, ``limit`` and ``cursor`` of the service.
        """
        return self.connection.ask(
            OperationPage, "GET", "/api/v1/operations", None, **_given(asked)
        )

    def follow(self, after: int, **asked: object) -> Iterator[Operation]:
        """Yield each operation whenever it changes, for ever; a service that restarts is waited for.

        ``asked`` are the filters of the service.
        """
        given = _given(asked)
        while True:
            began = time.monotonic()
            try:
                found = self.connection.ask(
                    OperationChanges, "GET", "/api/v1/operations/changes", None,
                    after=after, wait_s=WAIT_S, **given,
                )  # fmt: skip
            except UnavailableError:
                time.sleep(PAUSE_S)
                continue
            yield from found["operations"]
            after = found["position"]
            if not found["operations"] and time.monotonic() - began < PAUSE_S:
                # Too many wait there already: asked again at our own pace.
                time.sleep(PAUSE_S)


def _given(asked: dict[str, object]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}
