"""What the services of a stack said last stands in the report of a test that failed on it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from deploy.embedded.folder import open_state
from tests.plugins.stack import StackUnderTest

SERVICES = ("projector", "backup", "restore")
LINES = 25


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each log: the stack itself is gone when somebody reads the report."""
    report = yield
    if report.failed:
        for stack in _stacks(item):
            report.sections += list(_ends(stack))
    return report


def _stacks(item: pytest.Item) -> list[StackUnderTest]:
    """Return the stacks that the test was given, by themselves or in what is built on them."""
    found: dict[Path, StackUnderTest] = {}
    for given in getattr(item, "funcargs", {}).values():
        live = getattr(given, "live", given)
        stack = getattr(live, "stack", live)
        if isinstance(stack, StackUnderTest) and (stack.state / "place.toml").exists():
            found[stack.state] = stack
    return list(found.values())


def _ends(stack: StackUnderTest) -> Iterator[tuple[str, str]]:
    for name in SERVICES:
        path = open_state(stack.state).log(name)
        if path.exists():
            with path.open(encoding="utf-8", errors="replace") as lines:
                yield f"the end of {name}'s log", "".join(deque(lines, LINES))
