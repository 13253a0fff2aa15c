"""The history as a page asks for it: filters from a form, an order from a heading, a cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from backup_service.history import HistoryQuery, parse_query

ROWS: Final = 50
_FILTERS: Final = ("state", "key_state", "requested_by", "text", "held", "proven")


@dataclass(frozen=True)
class Listing:
    """What is asked of the history, and the addresses that ask for it otherwise."""

    query: HistoryQuery
    asked: Mapping[str, str]

    @classmethod
    def read(cls, arguments: Mapping[str, Sequence[str]]) -> Listing:
        """Read a request's arguments; an empty field asks for nothing. Raises UsageError."""
        given = {
            name: values[0]
            for name, values in arguments.items()
            if values and values[0].strip() and name in (*_FILTERS, "sort", "order", "cursor")
        }
        query = parse_query({name: [text] for name, text in given.items()} | {"limit": [str(ROWS)]})
        return cls(query, {name: text for name, text in given.items() if name != "cursor"})

    @property
    def sort(self) -> str:
        """Return what it is sorted by."""
        return str(self.query.sort.value)

    @property
    def descending(self) -> bool:
        """Tell whether the largest comes first."""
        return self.query.order == "desc"

    @property
    def first(self) -> bool:
        """Tell whether it is the first page."""
        return self.query.cursor is None

    @property
    def filtered(self) -> bool:
        """Tell whether anything is left out."""
        return any(name in self.asked for name in _FILTERS)

    def resorted(self, column: str) -> str:
        """Return the arguments that sort by ``column``: the other way round when it is so now."""
        turned = "asc" if self.sort == column and self.descending else "desc"
        return urlencode({**self.asked, "sort": column, "order": turned})

    def behind(self, cursor: str) -> str:
        """Return the arguments of the page behind ``cursor``."""
        return urlencode({**self.asked, "cursor": cursor})

    def beginning(self) -> str:
        """Return the arguments of the first page."""
        return urlencode(self.asked)
