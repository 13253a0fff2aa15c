"""When a restore may begin: windows of days and times, over midnight too, in a zone of their own."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from restore_service.settings import RestoreSettings
from restore_service.window import Window


# 2026-11-23 is a Monday.
@pytest.mark.parametrize(
    ("window", "moment", "open_then"),
    [
        ("22:00-05:00", "2026-11-23T21:59", False),
        ("22:00-05:00", "2026-11-23T22:00", True),
        ("22:00-05:00", "2026-11-24T04:59", True),
        ("22:00-05:00", "2026-11-24T05:00", False),
        ("mon-fri 22:00-05:00", "2026-11-28T04:00", True),
        ("mon-fri 22:00-05:00", "2026-11-28T23:00", False),
        ("mon-fri 22:00-05:00", "2026-11-23T04:00", False),
        ("sat,sun 00:00-12:00", "2026-11-29T11:59", True),
        ("sat,sun 00:00-12:00", "2026-11-23T11:00", False),
        ("fri-mon 08:00-09:00", "2026-11-29T08:30", True),
        ("fri-mon 08:00-09:00", "2026-11-25T08:30", False),
        ("08:00-08:00", "2026-11-25T03:00", True),
    ],
)
def test_a_window_is_open_from_its_first_minute_to_before_its_last(
    window: str, moment: str, open_then: bool
) -> None:
    assert Window(window).holds(datetime.fromisoformat(moment)) is open_then


def test_windows_are_in_their_own_time_zone() -> None:
    settings = RestoreSettings(windows=("22:00-23:00",), window_zone="Europe/Berlin")
    assert settings.in_window(datetime(2026, 7, 1, 20, 30, tzinfo=UTC))
    assert settings.in_window(datetime(2026, 12, 1, 21, 30, tzinfo=UTC))
    assert not settings.in_window(datetime(2026, 12, 1, 20, 30, tzinfo=UTC))


def test_without_windows_every_moment_is_open() -> None:
    assert RestoreSettings().in_window(datetime.now(UTC))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"windows": (text,)} for text in ("", "22:00", "funday 22:00-23:00", "25:00-26:00")),
        {"windows": ("mon- 22:00-23:00",)},
        {"window_zone": "Mars/Olympus"},
    ],
)
def test_a_window_that_is_none_is_refused_at_the_start(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RestoreSettings.model_validate(wrong)
