"""Schedule and retention: forms in plain language, and what they would do before they are saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Final
from uuid import uuid4

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from backup_service.configuration.commands import parse_configure, parse_confirm
from backup_service.configuration.names import standing_model
from backup_service.configuration.schedule import Schedule
from backup_service.context import BackupContext
from backup_service.handlers.apply_retention import preview_retention
from backup_service.handlers.configure import configure, confirm, show_configuration
from backup_service.handlers.run_schedule import seed_of
from backup_service.retention.policy import RetentionPolicy
from backup_service.schedule.view import SHOWN_RUNS, show_schedule
from backup_service.web.forms import RULES, TEXT_RULES, retention_of, schedule_of
from backup_service.web.words import RULES as RULE_WORDS
from serving.caller import requires
from serving.requester import http_requester
from serving.web.frame import Frame
from shared.errors import ConfigurationChanged, SecrynError
from shared.standing.ticks import next_runs

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FREQUENCIES: Final = {
    "hourly": "Every hour",
    "daily": "Every day",
    "weekly": "Every week",
    "monthly": "Every month",
    "cron": "By a cron expression",
}
# So many are named of those that would go; the rest is counted.
MOST_NAMED: Final = 100


def add_schedule_pages(pages: Blueprint, context: BackupContext, frame: Frame) -> None:
    """Add the pages below /admin/schedule to ``pages``."""

    def page(
        error: SecrynError | None = None,
        schedule: Mapping[str, Any] | None = None,
        runs: list[dict[str, str]] | None = None,
        retention: Mapping[str, Any] | None = None,
        judged: dict[str, Any] | None = None,
    ) -> str:
        present = show_schedule(context)
        kept = show_configuration(context, RetentionPolicy)
        # A form that is shown again decides on what its reader saw, and not on what came since.
        seen = request.form.get("etag", "")
        return render_template(
            "schedule/page.html",
            present=present,
            value=schedule if schedule is not None else present["value"],
            etag=present["etag"] if schedule is None else seen,
            paused_until=_paused_until(context, present["value"]),
            runs=runs if runs is not None else present["next_runs"],
            proposed=runs is not None,
            kept=kept,
            kept_etag=kept["etag"] if retention is None else seen,
            rules={name: text for name, text in RULES.items() if name in kept["value"]},
            rule_values=retention if retention is not None else kept["value"],
            judged=None if judged is None else _named(judged),
            error=error,
            overtaken=isinstance(error, ConfigurationChanged),
            frequencies=FREQUENCIES,
            weekdays=WEEKDAYS,
            text_rules=TEXT_RULES,
            rule_words=RULE_WORDS,
        )

    @pages.get("/schedule")
    @requires("read")
    def schedule() -> str:
        return page()

    @pages.post("/schedule")
    @requires("configure")
    def change_schedule() -> BaseResponse:
        value: Mapping[str, Any] = request.form
        try:
            value = schedule_of(request.form, show_configuration(context, Schedule)["value"])
            proposed = Schedule.read(value)
            if request.form.get("do") == "look":
                return make_response(page(schedule=value, runs=_runs(context, proposed)))
            _configure(context, "schedule", value)
        except SecrynError as error:
            return make_response(page(error, schedule=value), error.http_status)
        return redirect(f"{frame.prefix}/schedule", 303)

    @pages.post("/schedule/retention")
    @requires("configure")
    def change_retention() -> BaseResponse:
        try:
            present = show_configuration(context, RetentionPolicy)["value"]
            value = retention_of(request.form, present)
            if request.form.get("do") == "look":
                judged = preview_retention(context, RetentionPolicy.read(value))
                return make_response(page(retention=value, judged=judged))
            _configure(context, "retention", value)
        except SecrynError as error:
            return make_response(page(error, retention=request.form), error.http_status)
        return redirect(f"{frame.prefix}/schedule#retention", 303)

    @pages.post("/schedule/confirm/<name>")
    @requires("configure")
    def confirm_setting(name: str) -> BaseResponse | Response:
        document = _decision()
        try:
            confirm(context, parse_confirm(standing_model(name), document), http_requester())
        except SecrynError as error:
            return make_response(page(error), error.http_status)
        return redirect(f"{frame.prefix}/schedule", 303)


def _named(judged: Mapping[str, Any]) -> dict[str, Any]:
    """Return what would go by name, the oldest first; and by which rules the others stay."""
    goes = [found for found in reversed(judged["backups"]) if found["verdict"] == "purge"]
    stays = Counter(found["rule"] for found in judged["backups"] if found["verdict"] == "keep")
    return {
        "purge": judged["purge"],
        "keep": judged["keep"],
        "goes": goes[:MOST_NAMED],
        "more": len(goes) - len(goes[:MOST_NAMED]),
        "stays": stays.most_common(),
    }


def _paused_until(context: BackupContext, value: Mapping[str, Any]) -> datetime | None:
    """Return until when the schedule that is set is paused; None when it is not."""
    resumes = Schedule.read(value).resumes_at
    return resumes if resumes is not None and resumes > context.clock.now() else None


def _decision() -> dict[str, Any]:
    form = request.form
    return {
        "command_id": str(uuid4()),
        "if_match": form.get("etag", ""),
        "reason": form.get("why", "").strip() or "by hand",
    }


def _configure(context: BackupContext, name: str, value: Mapping[str, Any]) -> None:
    command = parse_configure(standing_model(name), _decision() | {"value": dict(value)})
    configure(context, command, http_requester())


def _runs(context: BackupContext, schedule: Schedule) -> list[dict[str, str]]:
    """Return when it would run, if it were saved now."""
    now = context.clock.now()
    zone = schedule.rule.zone
    return [
        {
            "due_at": tick.due_at.isoformat(),
            "local": tick.due_at.astimezone(zone).isoformat(),
        }
        for tick in islice(next_runs(schedule, seed_of(context), now, now), SHOWN_RUNS)
    ]
