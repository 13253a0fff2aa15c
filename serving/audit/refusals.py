"""Audit every refusal that an HTTP interface answers, and let nobody fill the trail.

A refusal is that somebody may not, or that what a known caller wanted to change stays as it is. What
is not there, or cannot be read, is none.

Each caller, and all strangers together, have a budget of entries that fills up again. What is
refused beyond it is counted, and the count is an entry of its own a minute later.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import structlog
from flask import g, request

from serving.addresses import holds_secret
from shared.audit import AuditEntry
from shared.errors import (
    AccessError,
    ConflictError,
    NotConfirmed,
    SecrynError,
    UnavailableError,
)

log = structlog.get_logger(__name__)

Record = Callable[[AuditEntry, str], None]
STRANGER: Final = "unknown"
# So many at once, and then so many a second.
BURST: Final = 60
PER_S: Final = 1.0
MOST_CALLERS: Final = 1_000


@dataclass
class _Budget:
    left: float
    at: float


@dataclass
class RefusalAudit:
    """What ``create_app`` calls with each refusal; ``flush`` writes what was only counted."""

    record: Record
    monotonic: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _budgets: dict[str, _Budget] = field(default_factory=dict)
    _uncounted: Counter[tuple[str, str]] = field(default_factory=Counter)

    def refused(self, error: SecrynError) -> None:
        """Record what the present request is answered with, if it is a refusal, or count it."""
        caller = getattr(g, "caller", None)
        kept = caller is not None and _keeps_as_it_is(error)
        if not isinstance(error, AccessError) and not kept:
            return
        actor = caller.name if caller is not None else STRANGER
        if not self._may_record(actor, error.code):
            return
        # The account that somebody did not get into.
        account = getattr(g, "refused_account", None)
        details = {"account": account} if account else {}
        if kept:
            # They name what there is: a handler found it.
            found = {name: str(value) for name, value in (request.view_args or {}).items()}
            details |= {name: value for name, value in found.items() if not holds_secret(value)}
        entry = AuditEntry(
            action=f"http.{request.method.lower()}",
            outcome="failure",
            actor=actor,
            resource_type="route",
            # The rule, not the path: what a stranger writes there is not ours to keep.
            resource_id=str(request.url_rule or "none"),
            source=f"http:{request.remote_addr}",
            code=error.code,
            details=details,
        )
        self._write(entry, str(g.get("correlation_id", "")))

    def flush(self) -> None:
        """Record how many refusals were only counted since the last time, by caller and code."""
        with self._lock:
            counted, self._uncounted = self._uncounted, Counter()
        for (actor, code), count in sorted(counted.items()):
            entry = AuditEntry(
                "http.refusals", "failure", actor, "route", code=code, details={"count": count}
            )
            self._write(entry, str(uuid4()))

    def _may_record(self, actor: str, code: str) -> bool:
        now = self.monotonic()
        with self._lock:
            if actor not in self._budgets and len(self._budgets) >= MOST_CALLERS:
                self._budgets = {STRANGER: self._budgets.get(STRANGER, _Budget(BURST, now))}
            budget = self._budgets.setdefault(actor, _Budget(BURST, now))
            budget.left = min(float(BURST), budget.left + (now - budget.at) * PER_S)
            budget.at = now
            if budget.left < 1:
                self._uncounted[actor, code] += 1
                return False
            budget.left -= 1
            return True

    def _write(self, entry: AuditEntry, correlation_id: str) -> None:
        try:
            self.record(entry, correlation_id)
        except UnavailableError as fault:
            log.error("audit.unrecorded", code=fault.code, refused=entry.code)


def _keeps_as_it_is(error: SecrynError) -> bool:
    """Tell whether something that was to be changed stays as it is, and nobody has told that yet."""
    changes = request.method not in ("GET", "HEAD", "OPTIONS")
    return changes and isinstance(error, ConflictError | NotConfirmed) and not error.in_trail
