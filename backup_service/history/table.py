"""The history as CSV (RFC 4180), for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

# Name of the column, and where its value lies in what is shown of a backup.
_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "backup_id": ("backup_id",),
    "state": ("state",),
    "requested_at": ("requested_at",),
    "requested_by": ("requested_by",),
    "reason": ("reason",),
    "epoch": ("epoch",),
    "offset": ("offset",),
    "size_bytes": ("size_bytes",),
    "duration_s": ("duration_s",),
    "proven_at": ("proven_at",),
    "last_verified_at": ("last_verified_at",),
    "intact": ("intact",),
    "receipt_intact": ("receipt_intact",),
    "rehearsed_at": ("rehearsed_at",),
    "rehearsal": ("rehearsal", "outcome"),
    "key_state": ("key_state",),
    "key_viewed_by": ("key_viewed_by",),
    "key_viewed_at": ("key_viewed_at",),
    "recipients": ("recipients",),
    "holds": ("holds",),
    "purged_at": ("purged_at",),
    "purged_because": ("purged", "why"),
    "purged_rule": ("purged", "rule"),
    "purged_by": ("purged", "by"),
    "sha256": ("sha256",),
    "location": ("location",),
    "error_code": ("error", "code"),
    "error_message": ("error", "message"),
}
# What a spreadsheet takes for a formula when a cell begins with it (OWASP, CSV injection).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_lines(pages: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
    """Yield the header and a page's lines at a time; one cell a value, none of them a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(_COLUMNS)
    for page in pages:
        writer.writerows(
            [_cell(_found(backup, path)) for path in _COLUMNS.values()] for backup in page
        )
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _found(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = document
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return _cell("; ".join(_named(entry) for entry in value))
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _named(entry: Any) -> str:
    return str(entry["holder"]) if isinstance(entry, Mapping) and "holder" in entry else str(entry)
