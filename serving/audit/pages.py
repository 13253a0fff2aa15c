"""The page of a service's audit trail: who did what, and whether the chain holds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, render_template, request

from serving.audit.query import AuditFilter, AuditQuery
from serving.audit.reader import AuditReader
from serving.caller import requires
from serving.paging import parse_arguments
from serving.requester import http_requester
from serving.web.frame import Frame

ROWS: Final = 50
# A chain of up to so many entries is checked whenever its page is opened (a fifth of a second).
CHECKED_AT_ONCE: Final = 5_000
FILTERS: Final = tuple(AuditFilter.model_fields)
# A day in a form is its beginning in UTC.
_DAYS: Final = ("since", "until")
_BEGINS: Final = "T00:00:00Z"


def add_audit_pages(pages: Blueprint, reader: AuditReader, frame: Frame) -> None:
    """Add the pages below ``audit`` to ``pages``; each service shows its own chain."""
    home = f"{frame.prefix}/audit"

    @pages.get("/audit")
    @requires("read_audit")
    def audit() -> str:
        asked = _asked(request.args)
        page = reader.page(_query(asked))
        filters = {name: text for name, text in asked.items() if name != "cursor"}
        return render_template(
            "web/audit.html",
            page=page,
            home=home,
            asked=filters,
            exported=urlencode(_query(filters).model_dump(mode="json", include=set(filters))),
            query=urlencode(filters),
            first="cursor" not in asked,
            report=None,
            at_once=page["total"] <= CHECKED_AT_ONCE,
        )

    @pages.get("/audit/chain")
    @requires("read_audit")
    def audit_chain() -> str:
        report = reader.verify(http_requester())
        part = request.headers.get("HX-Request") == "true"
        template = "web/audit_chain.html" if part else "web/audit_checked.html"
        return render_template(template, report=report, home=home, at_once=False)


def _asked(arguments: Mapping[str, str]) -> dict[str, str]:
    """Return what the present request asks for; an empty field asks for nothing."""
    return {
        name: text.strip()
        for name in (*FILTERS, "cursor")
        if (text := arguments.get(name, "")).strip()
    }


def _query(asked: Mapping[str, str]) -> AuditQuery:
    """Read the fields of the form; a day is one in UTC. Raises UsageError."""
    given: dict[str, Any] = dict(asked) | {"limit": ROWS}
    for name in _DAYS:
        if name in given and _is_day(given[name]):
            given[name] += _BEGINS
    return parse_arguments(AuditQuery, {name: [value] for name, value in given.items()}, ())


def _is_day(text: str) -> bool:
    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False
