"""How many random examples a property is tried with.

    pytest                     # 200 each, the same ones every time: red or green for a reason
    pytest --examples 5000     # so many, new ones every time: to search. A failing one is made
                               # small, which takes minutes: add --timeout 0

A property that is dear says how many times dearer: ``@settings(max_examples=scaled(20))`` means
20 where the default is 200, and in proportion with --examples.
"""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import Phase, settings

DEFAULT_EXAMPLES: Final = 200
_PROFILE: Final = "secryn"
_NO_SHRINKING: Final = tuple(phase for phase in Phase if phase not in {Phase.shrink, Phase.explain})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--examples",
        type=int,
        default=None,
        metavar="N",
        help=f"random examples of each property (default {DEFAULT_EXAMPLES}, always the same)",
    )


def pytest_configure(config: pytest.Config) -> None:
    wanted: int | None = config.getoption("--examples")
    settings.register_profile(
        _PROFILE,
        max_examples=wanted or DEFAULT_EXAMPLES,
        derandomize=wanted is None,
        phases=_NO_SHRINKING if wanted is None else tuple(Phase),
        database=None,
        deadline=None,
        print_blob=True,
    )
    settings.load_profile(_PROFILE)


def scaled(examples: int) -> int:
    """Return ``examples`` in proportion to what was asked for, at least one."""
    return max(1, examples * settings().max_examples // DEFAULT_EXAMPLES)
