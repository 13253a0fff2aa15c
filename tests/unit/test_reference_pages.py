"""The reference pages say what the code says."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.reference import errors_page, events_schema, settings_page
from shared.errors import SecrynError, all_error_classes

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "name"),
    [
        (errors_page, "errors.md"),
        (settings_page, "settings.md"),
        (events_schema, "instance-events.schema.json"),
    ],
)
def test_the_committed_page_is_what_the_code_generates(page: Callable[[], str], name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == page(), "run: python -m cli.reference"


def test_every_code_belongs_to_one_class_and_every_error_says_what_to_do() -> None:
    codes: dict[str, type[SecrynError]] = {}
    for cls in all_error_classes():
        assert cls.hint, cls
        assert cls.code not in codes or issubclass(cls, codes[cls.code]), cls
        codes.setdefault(cls.code, cls)
