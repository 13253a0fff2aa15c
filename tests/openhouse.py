"""The pages of a house at addresses of their own: a browser visits them, without a stack.

with house.stack, opened(house) as where:
    site = Site(house, where, show_everything(house))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.callers import House
from tests.serving_api import board_of, served

STATUS = {
    "position": 1234, "high_watermark": 1234, "log_lost": False, "lag": 0, "epoch": 1,
    "fenced": False, "stands_still": False,
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """The pages of a house, at their addresses, and what there is to be seen."""

    house: House
    where: tuple[str, str]
    ids: dict[str, str]


def say_of_the_log(patch: pytest.MonkeyPatch, **said: Any) -> None:
    """Let the pages say this of the log: there is no Kafka here."""
    patch.setattr("backup_service.web.health.show_status", lambda *_: STATUS | said)


@contextmanager
def opened(house: House) -> Iterator[tuple[str, str]]:
    """Serve both applications of a house."""
    backup, restore = house.backup, house.restoring.context
    with (
        served(house.apps["backup"], board_of(backup), backup.settings.http) as backup_url,
        served(house.apps["restore"], board_of(restore), restore.settings.http) as restore_url,
    ):
        yield backup_url, restore_url
