"""What every schedule is set by on the command line, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

Enabled = Annotated[bool | None, typer.Option("--enable/--disable", help="Whether it runs at all.")]
Frequency = Annotated[str | None, typer.Option(help="hourly, daily, weekly, monthly or cron.")]
At = Annotated[str | None, typer.Option(help="Run time, HH:MM; hourly takes the minute.")]
Weekday = Annotated[str | None, typer.Option(help="For weekly: monday to sunday.")]
Day = Annotated[
    int | None, typer.Option(help="For monthly: 1 to 31; a shorter month runs on its last.")
]
Cron = Annotated[
    str | None, typer.Option(help="Five fields: minute hour day-of-month month day-of-week.")
]
Zone = Annotated[str | None, typer.Option(help="IANA time zone, such as Europe/Berlin.")]
Missed = Annotated[
    str | None, typer.Option(help="A missed run: `run` makes it up once, `skip` leaves it.")
]
JitterS = Annotated[int | None, typer.Option(help="Delay each run by up to so many s.")]
PauseUntil = Annotated[
    str | None, typer.Option(help="A date, or a time with its zone; `no` ends a pause.")
]
# Which field a frequency takes beside the run time.
_OWN = {"weekly": "weekday", "monthly": "day", "cron": "cron"}


def changed(value: Mapping[str, Any], wished: dict[str, Any]) -> dict[str, Any]:
    """Return the schedule with what is wished; fields of another frequency go."""
    if "frequency" not in wished:
        named = [frequency for frequency, name in _OWN.items() if name in wished]
        wished = wished | ({"frequency": named[0]} if len(named) == 1 else {})
    result = {**value, **wished}
    for frequency, name in _OWN.items():
        if result["frequency"] != frequency and name not in wished:
            result[name] = None
    if wished.get("paused_until") == "no":
        result["paused_until"] = None
    return result


def rule_of(value: Mapping[str, Any]) -> str:
    """Return when a schedule runs, in words."""
    at = {
        "hourly": f"hourly at minute {value['at'][3:]}",
        "daily": f"daily at {value['at']}",
        "weekly": f"every {value['weekday']} at {value['at']}",
        "monthly": f"on day {value['day']} of every month at {value['at']}",
        "cron": f"cron {value['cron']}",
    }[value["frequency"]]
    return f"{at} ({value['zone']})"
