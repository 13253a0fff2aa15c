"""Audit every refusal that an HTTP interface answers."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from flask import g, request

from shared.audit import AuditEntry
from shared.errors import SecrynError, UnavailableError

log = structlog.get_logger(__name__)


def refusal_hook(record: Callable[[AuditEntry, str], None]) -> Callable[[SecrynError], None]:
    """Return what ``create_app`` calls with each refusal."""

    def refused(error: SecrynError) -> None:
        caller = getattr(g, "caller", None)
        # The account that somebody did not get into.
        account = getattr(g, "refused_account", None)
        entry = AuditEntry(
            action=f"http.{request.method.lower()}",
            outcome="failure",
            actor=caller.name if caller is not None else "unknown",
            resource_type="route",
            # The rule, not the path: what a stranger writes there is not ours to keep.
            resource_id=str(request.url_rule or "none"),
            source=f"http:{request.remote_addr}",
            code=error.code,
            details={"account": account} if account else {},
        )
        try:
            record(entry, str(g.get("correlation_id", "")))
        except UnavailableError as fault:
            log.error("audit.unrecorded", code=fault.code, refused=error.code)

    return refused
