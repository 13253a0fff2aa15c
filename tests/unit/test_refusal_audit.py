"""Refusals are in the audit trail, and nobody fills it with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from flask import Flask, g, request

from serving.audit.refusals import BURST, MOST_CALLERS, RefusalAudit
from serving.caller import Caller
from shared.audit import AuditEntry
from shared.errors import (
    AccessError,
    BackupHeld,
    BackupNotFound,
    NotAuthenticated,
    NotConfirmed,
    PostgresUnavailable,
    SecrynError,
    UsageError,
)

APP = Flask("test")


@dataclass
class Trail:
    entries: list[AuditEntry] = field(default_factory=list)
    now: float = 0.0
    fault: bool = False

    def record(self, entry: AuditEntry, _: str) -> None:
        if self.fault:
            raise PostgresUnavailable("away")
        self.entries.append(entry)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def trail() -> Trail:
    return Trail()


@pytest.fixture
def refusals(trail: Trail) -> RefusalAudit:
    return RefusalAudit(trail.record, trail.monotonic)


def refuse(refusals: RefusalAudit, name: str | None = None, times: int = 1) -> None:
    for _ in range(times):
        with APP.test_request_context("/somewhere"):
            g.caller = Caller(name, frozenset()) if name is not None else None
            refusals.refused(NotAuthenticated("who?") if name is None else AccessError("no"))


def test_a_flood_of_refusals_is_a_bounded_number_of_entries_and_one_count(
    refusals: RefusalAudit, trail: Trail
) -> None:
    refuse(refusals, times=BURST + 500)
    assert len(trail.entries) == BURST
    refusals.flush()
    assert trail.entries[-1].details == {"count": 500}
    assert (trail.entries[-1].action, trail.entries[-1].actor) == ("http.refusals", "unknown")
    refusals.flush()
    assert len(trail.entries) == BURST + 1


def test_who_is_known_is_recorded_however_much_strangers_ask(
    refusals: RefusalAudit, trail: Trail
) -> None:
    refuse(refusals, times=BURST + 10)
    refuse(refusals, "user:anna")
    assert trail.entries[-1].actor == "user:anna"
    refuse(refusals, "user:anna", times=BURST + 10)
    refuse(refusals, "user:ben")
    assert trail.entries[-1].actor == "user:ben"


def test_the_budget_fills_up_again(refusals: RefusalAudit, trail: Trail) -> None:
    refuse(refusals, times=BURST + 10)
    trail.now = 5.0
    refuse(refusals, times=10)
    assert len(trail.entries) == BURST + 5


def test_many_callers_take_a_bounded_memory_and_strangers_gain_nothing(
    refusals: RefusalAudit, trail: Trail
) -> None:
    refuse(refusals, times=BURST)
    for number in range(MOST_CALLERS + 50):
        refuse(refusals, f"user:{number}")
    assert len(refusals._budgets) <= MOST_CALLERS
    before = len(trail.entries)
    refuse(refusals)
    assert len(trail.entries) == before


def test_a_trail_that_is_away_keeps_no_refusal_from_being_answered(
    refusals: RefusalAudit, trail: Trail
) -> None:
    trail.fault = True
    refuse(refusals)
    refusals.flush()
    assert not trail.entries


@pytest.mark.parametrize(
    ("method", "name", "error", "told"),
    [
        ("POST", "user:anna", BackupHeld("held"), True),
        ("POST", "user:anna", NotConfirmed("another id"), True),
        ("GET", "user:anna", BackupHeld("held"), False),
        ("POST", None, BackupHeld("held"), False),
        ("POST", "user:anna", UsageError("what?"), False),
        ("POST", "user:anna", BackupNotFound("none"), False),
        ("POST", "user:anna", PostgresUnavailable("away"), False),
    ],
)
def test_what_was_to_be_changed_and_stays_as_it_is_is_an_entry_that_names_it(
    refusals: RefusalAudit,
    trail: Trail,
    method: str,
    name: str | None,
    error: SecrynError,
    told: bool,
) -> None:
    with APP.test_request_context("/somewhere", method=method):
        request.view_args = {"backup_id": "b-1"}
        g.caller = Caller(name, frozenset()) if name is not None else None
        refusals.refused(error)
        error.in_trail = True
        refusals.refused(error)
    found = [(entry.code, entry.details) for entry in trail.entries]
    assert found == [(error.code, {"backup_id": "b-1"})] * told
