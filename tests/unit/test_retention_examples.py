"""The table of examples in docs/retention.md is what the code decides."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup_service.retention.evaluate import Candidate, Rule, Verdict, evaluate
from backup_service.retention.policy import RetentionPolicy
from backup_service.retention.standing import Standing

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
PAGE = Path(__file__).parents[2] / "docs" / "retention.md"
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
BACKUP = re.compile(
    r"(?P<bold>\*\*)?(?P<age>-?\d+)(?P<unit>[mhd])(?: (?P<mark>\w+))?: (?P<rule>\w+)(\*\*)?"
)


def examples() -> list[tuple[str, str, str]]:
    """Return the rows of the table: what it shows, the rules, the backups."""
    lines = PAGE.read_text(encoding="utf-8").split("| what it shows |")[1].splitlines()[2:]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line]
    return [(shows, rules, backups) for shows, rules, backups in rows]


def read_rules(text: str) -> RetentionPolicy:
    named = dict(rule.split(": ") for rule in text.split(", ")) if text else {}
    return RetentionPolicy.read({k: int(v) if v.isdigit() else v for k, v in named.items()})


def read_backup(number: int, text: str) -> tuple[Candidate, bool, str]:
    matched = BACKUP.fullmatch(text)
    assert matched, text
    taken_at = NOW - timedelta(**{UNITS[matched["unit"]]: int(matched["age"])})
    mark = matched["mark"]
    standing = Standing(mark) if mark in set(Standing) else Standing.COUNTS
    needed = Rule(mark) if mark in {Rule.HELD, Rule.IN_USE, Rule.UNDO_WINDOW} else None
    assert mark is None or needed or standing is not Standing.COUNTS, text
    return (
        Candidate(f"b{number:02}", taken_at, standing, needed),
        matched["bold"] is not None,
        matched["rule"],
    )


@pytest.mark.parametrize(("shows", "rules", "backups"), examples(), ids=lambda text: text[:60])
def test_an_example_of_the_page_is_what_is_decided(shows: str, rules: str, backups: str) -> None:
    wanted = [read_backup(number, text) for number, text in enumerate(backups.split(", "))]
    # The order in which they are given decides nothing.
    found = evaluate(read_rules(rules), [one for one, _, _ in reversed(wanted)], NOW)
    assert [said(verdict) for verdict in found] == [
        (one.backup_id, purged, rule) for one, purged, rule in wanted
    ]


def said(verdict: Verdict) -> tuple[str, bool, str]:
    return verdict.backup.backup_id, verdict.purge, str(verdict.rule)


def test_the_page_has_an_example_of_every_rule() -> None:
    shown = {word for _, _, backups in examples() for word in re.findall(r": (\w+)", backups)}
    # Those of a restore's settings have no table: test_retention_after_a_restore shows them.
    assert shown == set(Rule) - {Rule.UNCONFIRMED, Rule.PAUSED}
