"""The forms of schedule and retention change what they show, and leave the rest as it was."""

from __future__ import annotations

from typing import Any

import pytest

from backup_service.configuration.schedule import Schedule
from backup_service.retention.policy import RetentionPolicy
from backup_service.web.forms import RULES, retention_of, schedule_of
from shared.errors import UsageError

PRESENT = Schedule.read(
    {
        "enabled": True, "frequency": "weekly", "weekday": "friday", "at": "03:10",
        "zone": "Europe/Berlin", "missed": "skip", "jitter_s": 600, "after_events": 1000,
        "after_events_pause_s": 120, "skip_if_unchanged": True, "paused_until": "2099-01-01",
    }
)  # fmt: skip


def form_of(value: Schedule) -> dict[str, str]:
    """Return what a browser sends of the form that shows ``value``."""
    fields = {
        name: "" if content is None else str(content) for name, content in value.as_json().items()
    }
    shown = ("frequency", "at", "weekday", "day", "cron", "zone", "missed", "after_events")
    form = {name: fields[name] for name in (*shown, "paused_until")}
    for name in ("enabled", "skip_if_unchanged"):
        if getattr(value, name):
            form[name] = "on"
    return form | {"recipients": "\r\n".join(value.recipients)}


def test_a_form_that_is_sent_as_it_came_changes_nothing() -> None:
    assert Schedule.read(schedule_of(form_of(PRESENT), PRESENT.as_json())) == PRESENT


def test_what_is_of_another_frequency_goes_and_what_is_not_shown_stays() -> None:
    form = form_of(PRESENT) | {"frequency": "monthly", "day": "31", "paused_until": ""}
    changed = Schedule.read(schedule_of(form, PRESENT.as_json()))
    assert (changed.frequency, changed.day, changed.weekday) == ("monthly", 31, None)
    assert changed.paused_until is None
    assert (changed.jitter_s, changed.after_events_pause_s) == (600, 120)


@pytest.mark.parametrize("text", ["2026-12-24", "2026-12-24T06:00+01:00", "2026-12-24T06:00:00Z"])
def test_a_pause_is_a_date_or_a_moment(text: str) -> None:
    form = form_of(PRESENT) | {"paused_until": f" {text} "}
    assert Schedule.read(schedule_of(form, PRESENT.as_json())).resumes_at is not None


@pytest.mark.parametrize("text", ["Christmas", "2026-12-24T06:00", "24.12.2026"])
def test_another_pause_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        schedule_of(form_of(PRESENT) | {"paused_until": text}, PRESENT.as_json())
    assert text in refused.value.message
    assert "2026-12-24" in refused.value.advice


def test_rules_keep_their_zone_and_an_empty_field_is_no_rule() -> None:
    rules = {"keep_last": 9, "keep_daily": 7, "keep_within": "14d", "zone": "Europe/Berlin"}
    present = RetentionPolicy.read(rules)
    form: dict[str, Any] = dict.fromkeys(RULES, "") | {"keep_last": "10", "keep_within": "36h"}
    changed = RetentionPolicy.read(retention_of(form, present.as_json()))
    assert changed == RetentionPolicy(keep_last=10, keep_within="36h", zone="Europe/Berlin")
    moved = retention_of(form | {"zone": " America/Lima "}, present.as_json())
    assert moved["zone"] == "America/Lima"
