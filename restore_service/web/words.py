"""What restores, rehearsals, their steps and their checks are called on a page."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from restore_service.rehearsal.run import RehearsalStep
from restore_service.run import Step

STATES: Final = {
    "requested": ("wait", "Waiting"),
    "running": ("busy", "Running"),
    "restored": ("good", "Restored"),
    "rehearsed": ("good", "Rehearsed"),
    "awaiting_approval": ("wait", "Waits for another person"),
    "approved": ("wait", "Approved, not begun"),
    "aborted": ("bad", "Given up"),
    "failed": ("bad", "Failed"),
    "cancelled": ("off", "Cancelled"),
    "expired": ("off", "Expired"),
}
RESTORE_STEPS: Final[Mapping[StrEnum, str]] = {
    Step.CHECK: "Checking the present state",
    Step.LOAD: "Checking the file to its last byte, loading it beside the present state",
    Step.COMPARE: "Comparing every row with the backup, building the indexes meanwhile",
    Step.INDEXES: "Finishing the indexes",
    Step.CHECK_KEPT: "Checking the state that was kept",
    Step.NOTICE: "Waiting for the time that was announced",
    Step.GUARD: "Waiting for a running backup",
    Step.FENCE: "Raising the fence: writing stops",
    Step.DELIVERY: "Waiting for the log to take the fence",
    Step.HOLD: "Waiting for the projector to stop",
    Step.REPLAY: "Rolling forward along the log",
    Step.PREPARE: "Preparing the cut-over",
    Step.DRAIN: "Waiting for older transactions",
    Step.CUT_OVER: "Cutting over, in one moment",
    Step.REOPEN: "Lowering the fence: writing goes on",
    Step.COMPLETE: "Recording it",
}
REHEARSAL_STEPS: Final[Mapping[StrEnum, str]] = {
    RehearsalStep.CHECK: "Checking the present state",
    RehearsalStep.LOAD: "Checking the file to its last byte, loading it beside the instance",
    RehearsalStep.COMPARE: "Comparing every row with the backup, building the indexes meanwhile",
    RehearsalStep.INDEXES: "Finishing the indexes",
    RehearsalStep.REPLAY: "Rolling forward along the log",
    RehearsalStep.COMPARE_END: "Comparing the state it rolled forward to",
    RehearsalStep.PREPARE: "Preparing the cut-over that is not made",
    RehearsalStep.RETRACE: "Looking for the way along the log",
    RehearsalStep.FOLD: "Folding the log up to the backup",
    RehearsalStep.COMPARE_FOLD: "Comparing the two",
    RehearsalStep.COMPLETE: "Recording it",
}
# Steps that not every run has: they are shown when it is there, and not promised before.
SOMETIMES: Final = frozenset(
    {Step.CHECK_KEPT, Step.NOTICE, Step.REPLAY, RehearsalStep.REPLAY, RehearsalStep.COMPARE_END}
)
ACCESS: Final = {
    "users": "users",
    "users_enabled": "users who were disabled since",
    "roles": "roles",
    "role_permissions": "permissions of roles",
    "role_bindings": "role bindings",
}
# In the order in which they are made; a refusal names the check that it belongs to.
CHECKS: Final = (
    ("opens", "The key opens it", ("archive.wrong_key_or_header", "archive.not_age",
                                   "archive.header_invalid", "key.malformed")),
    ("source", "It is of the instance that you mean", ("archive.another_instance",
                                                       "backup.not_found")),
    ("schema", "This release can read it", ("archive.format_too_new", "archive.schema_too_new")),
    ("whole", "It is whole, to the last byte", ("archive.damaged", "archive.truncated",
                                                "archive.altered", "archive.malformed",
                                                "archive.limit_exceeded",
                                                "archive.manifest_mismatch")),
    ("signature", "Its signature holds, and the signer is trusted",
     ("archive.signature_invalid", "archive.signer_untrusted")),
)  # fmt: skip


def steps_of(document: Mapping[str, Any], titles: Mapping[StrEnum, str]) -> list[dict[str, Any]]:
    """Return every step of something that runs: done, now (with how far it is), or next."""
    present = document.get("step")
    names = [step for step in titles if step not in SOMETIMES or step == present]
    at = next((place for place, step in enumerate(names) if step == present), -1)
    return [
        {
            "title": titles[step],
            "status": "done" if place < at else "now" if place == at else "next",
            "progress": document.get("progress", {}) if place == at else {},
        }
        for place, step in enumerate(names)
    ]


def checks_of(preview: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the checks of an archive: which held, which did not, which were not reached."""
    code = (preview["error"] or {}).get("code")
    failed = next((place for place, (*_, codes) in enumerate(CHECKS) if code in codes), None)
    if preview["state"] == "previewed":
        failed = len(CHECKS)
    reached = -1 if failed is None else failed
    return [
        {
            "name": name,
            "title": title,
            "status": "done" if place < reached else "failed" if place == reached else "next",
        }
        for place, (name, title, _) in enumerate(CHECKS)
    ]
