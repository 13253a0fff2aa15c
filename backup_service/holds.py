"""Holds: whoever has one on a backup keeps it from being purged, whatever the rules."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.eventstore import StoredEvent

Facts = dict[str, Any]


def active_holds(backup: Mapping[str, Any], now: datetime) -> list[Facts]:
    """Return the holds on a backup that are not over."""
    return [hold for hold in backup["holds"] if not is_over(hold, now)]


def is_over(hold: Mapping[str, Any], now: datetime) -> bool:
    """Tell whether a hold had an end and that has come."""
    return hold["until"] is not None and datetime.fromisoformat(hold["until"]) <= now


def holders(holds: list[Facts]) -> str:
    """Return who holds, for a person to read."""
    return ", ".join(
        f"{hold['holder']} ({hold['reason']}"
        + (f", until {hold['until']})" if hold["until"] is not None else ")")
        for hold in holds
    )


def with_hold(facts: Facts, event: StoredEvent) -> Facts:
    """Return ``facts`` with one hold more; a holder's new one replaces the old."""
    new = {
        "holder": event.data["holder"],
        "reason": event.data["reason"],
        "until": event.data["until"],
        "held_at": event.occurred_at.isoformat(),
        "held_by": event.actor,
    }
    others = [one for one in facts["holds"] if one["holder"] != new["holder"]]
    return facts | {"holds": sorted([*others, new], key=lambda one: str(one["holder"]))}


def without_hold(facts: Facts, event: StoredEvent) -> Facts:
    """Return ``facts`` without the hold that was released, or is over."""
    kept = [one for one in facts["holds"] if one["holder"] != event.data["holder"]]
    return facts | {"holds": kept}
