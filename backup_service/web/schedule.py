"""Schedule and retention: forms in plain language, and what they would do before they are saved."""

from __future__ import annotations

from collections.abc import Mapping
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
from serving.caller import requires
from serving.requester import http_requester
from serving.web.frame import Frame
from shared.errors import SecrynError, UsageError
from shared.standing.ticks import next_runs

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FREQUENCIES: Final = {
    "hourly": "Every hour",
    "daily": "Every day",
    "weekly": "Every week",
    "monthly": "Every month",
    "cron": "By a cron expression",
}
# The rules as sentences around a field; those that the setting knows are shown.
RULES: Final = {
    "keep_last": ("Keep the newest", "backups; older ones may go"),
    "older_than_days": ("Let backups go that are older than", "days"),
    "keep_within": ("But keep all of the last", "such as 14d or 1y6m"),
    "keep_hourly": ("and one an hour, of the last", "hours"),
    "keep_daily": ("and one a day, of the last", "days"),
    "keep_weekly": ("and one a week, of the last", "weeks"),
    "keep_monthly": ("and one a month, of the last", "months"),
    "keep_yearly": ("and one a year, of the last", "years"),
}
TEXT_RULES: Final = frozenset({"keep_within", "zone"})
# Each is of one frequency alone.
_OF_FREQUENCY: Final = {"weekday": "weekly", "day": "monthly", "cron": "cron"}


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
        kept = show_configuration(context, standing_model("retention"))
        return render_template(
            "schedule/page.html",
            present=present,
            value=schedule if schedule is not None else present["value"],
            runs=runs if runs is not None else present["next_runs"],
            proposed=runs is not None,
            kept=kept,
            rules={name: text for name, text in RULES.items() if name in kept["value"]},
            rule_values=retention if retention is not None else kept["value"],
            judged=judged,
            error=error,
            frequencies=FREQUENCIES,
            weekdays=WEEKDAYS,
            text_rules=TEXT_RULES,
        )

    @pages.get("/schedule")
    @requires("read")
    def schedule() -> str:
        return page()

    @pages.post("/schedule")
    @requires("configure")
    def change_schedule() -> BaseResponse:
        value = schedule_of(request.form)
        try:
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
            value = retention_of(request.form)
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


def schedule_of(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the schedule that a form describes: what is not of its frequency is left out."""
    frequency = form.get("frequency", "daily")
    value: dict[str, Any] = {
        "enabled": form.get("enabled") == "on",
        "frequency": frequency,
        "at": form.get("at", "").strip() or "02:00",
        "zone": form.get("zone", "").strip() or "UTC",
        "missed": form.get("missed", "run"),
        "skip_if_unchanged": form.get("skip_if_unchanged") == "on",
        "recipients": form.get("recipients", "").split(),
    }
    for name, only in _OF_FREQUENCY.items():
        text = form.get(name, "").strip()
        if frequency == only and text:
            value[name] = _number("day of the month", text) if name == "day" else text
    if form.get("after_events", "").strip():
        value["after_events"] = _number("number of events", form["after_events"].strip())
    return value


def retention_of(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the rules that a form sets: an empty field is no rule. Raises UsageError."""
    typed = {name: form.get(name, "").strip() for name in (*RULES, "zone")}
    return {
        name: text if name in TEXT_RULES else _number(" ".join(RULES[name]), text)
        for name, text in typed.items()
        if text
    }


def _number(what: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise UsageError(f"{text[:20]!r} is no whole number: {what}")
    return int(text)


def _decision() -> dict[str, Any]:
    form = request.form
    return {
        "command_id": str(uuid4()),
        "if_match": form.get("etag", ""),
        "reason": form.get("why", "").strip() or "by hand",
    }


def _configure(context: BackupContext, name: str, value: dict[str, Any]) -> None:
    command = parse_configure(standing_model(name), _decision() | {"value": value})
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
