"""How much a loss would cost now, in a line or two: for `secryn status` and `secryn backup list`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_ORIGINS = {
    "restored": "a restore brought it back",
    "foreign": "it came with another instance's data",
    "unheard": "a restore is over, and not yet heard of",
    "written": "somebody wrote it past the service",
}


def recovery_line(point: dict[str, Any]) -> str:
    """Return the recovery point in words."""
    if point["backup_id"] is None:
        return "NO BACKUP COUNTS: none is proven and can be opened by somebody."
    if point["events"] is None:
        return f"Backup {point['backup_id']} counts, and is of another log."
    if point["events"] == 0:
        return f"Nothing changed since the backup {point['backup_id']}."
    return (
        f"A loss now would cost {point['events']:,} events, {point['seconds']:,} s, behind the"
        f" backup {point['backup_id']}."
    )


def protection_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an administrator has to know about backups now."""
    yield recovery_line(found["recovery_point"])
    staleness = found["staleness"]
    if staleness["stale"]:
        yield f"STALE: no backup that counts within {staleness['within_s']:,} s."
    run = found["next_run"]
    yield "No run is scheduled." if run is None else f"Next run: {run['local']}"
    if found["recipients"]:
        yield f"Scheduled backups are encrypted to {', '.join(found['recipients'])}."
    for name, origin in found["awaits_confirmation"].items():
        yield f"THE {name.upper()} IS NOT CONFIRMED: {_ORIGINS[origin]}. `secryn {name} confirm`"
