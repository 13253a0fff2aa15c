"""What backups, keys and steps are called on a page, and the shape that stands beside the word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from backup_service.retention.evaluate import Rule
from backup_service.run import Step

STATES: Final = {
    "requested": ("wait", "Waiting"),
    "running": ("busy", "Running"),
    "created": ("good", "Proven"),
    "failed": ("bad", "Failed"),
    "cancelled": ("off", "Cancelled"),
    "purging": ("busy", "Being purged"),
    "purged": ("off", "Purged"),
}
# What is told of a backup whose stored file is not what it was.
DAMAGED: Final = ("bad", "Damaged")
KEYS: Final = {
    "waiting": ("key", "Not viewed yet"),
    "viewed": ("good", "Viewed"),
    "own_recipient": ("good", "Your own recipient"),
    "expired": ("bad", "Expired"),
    "gone": ("bad", "Gone"),
    "destroyed": ("off", "Destroyed with it"),
}
# What a rehearsal of a backup found.
REHEARSALS: Final = {
    "restorable": ("good", "Restorable"),
    "differs": ("bad", "Differs"),
    "failed": ("bad", "Failed"),
}
# By which rule of retention a backup goes or stays.
RULES: Final[Mapping[str, str]] = {
    Rule.OVER_LAST: "it is not among the newest that are kept",
    Rule.OLDER_THAN: "it is older than the days that are set",
    Rule.HELD: "somebody holds it",
    Rule.IN_USE: "a restore or a download uses it",
    Rule.UNDO_WINDOW: "a restore from it can still be undone",
    Rule.NEWEST: "it is the newest that can be opened",
    Rule.KEY_WAITS: "its key waits to be viewed",
    Rule.NOTHING_COUNTS: "nothing else could be opened",
    Rule.KEEP_WITHIN: "it is of the time in which all are kept",
    Rule.KEEP_HOURLY: "it is the one of its hour",
    Rule.KEEP_DAILY: "it is the one of its day",
    Rule.KEEP_WEEKLY: "it is the one of its week",
    Rule.KEEP_MONTHLY: "it is the one of its month",
    Rule.KEEP_YEARLY: "it is the one of its year",
    Rule.WITHIN_LIMITS: "no limit names it",
    Rule.UNCONFIRMED: "the rules wait for a confirmation",
    Rule.PAUSED: "the rules are paused",
}
STEPS: Final = {
    Step.STORE: "Waiting until everything written so far is stored",
    Step.SNAPSHOT: "Taking the snapshot",
    Step.WRITE: "Encrypting and storing it",
    Step.PROVE: "Proving it: reading it back, decrypting it, checking every row",
    Step.RECEIPT: "Signing the receipt",
    Step.ANNOUNCE: "Recording it",
}


def state_of(backup: Mapping[str, Any]) -> tuple[str, str]:
    """Return the shape and the word of a backup's state; a damaged one is not called proven."""
    if backup["state"] == "created" and backup["intact"] is False:
        return DAMAGED
    return STATES.get(backup["state"], ("wait", str(backup["state"])))


def steps_of(backup: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every step of a running backup: done, now (with how far it is), or next."""
    names = list(STEPS)
    present = backup.get("step")
    at = names.index(Step(present)) if present in list(STEPS) else -1
    shown = []
    for place, step in enumerate(names):
        status = "done" if place < at else "now" if place == at else "next"
        shown.append({"title": STEPS[step], "status": status, "progress": {}})
        if status == "now":
            shown[-1]["progress"] = backup.get("progress", {})
    return shown
