"""Tests of minutes that go one way more of what a shorter one goes: `pytest --long`.

@pytest.mark.long("the other end of the log; the beginning is in every run")
def test_it(): ...

An ordinary run leaves them out and says how many; `make test-all` runs them.
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="run the tests of minutes, too (marked long)"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long(why): only with --long; what an ordinary run goes on")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("long")]
