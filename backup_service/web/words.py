"""What backups, keys and steps are called on a page, and the shape that stands beside the word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
