"""Write an archive's tables as CSV or JSON lines: one file a table, one part in memory at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from shared.archive.age import Identity
from shared.archive.age.header import Source
from shared.archive.copybinary import split_fields, split_tuples
from shared.archive.limits import DEFAULT_LIMITS, Limits
from shared.archive.manifest import TableEntry
from shared.archive.reader import Part, open_archive
from shared.archive.values import RawJson, Value, decoder_of
from shared.archive.verify import KEYRING, KEYRING_DATA_KEY, VerifiedArchive
from shared.errors import ArchiveAltered, ArchiveMalformed, UsageError

Format = Literal["csv", "jsonl"]
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class ExportedTable:
    """A table that was written: the columns that the file has, and its rows."""

    file: Path
    columns: tuple[str, ...]
    rows: int


def export_archive(
    source: Source,
    identities: Sequence[Identity],
    verified: VerifiedArchive,
    folder: Path,
    form: Format,
    *,
    with_data_keys: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    progress: Callable[[int], None] | None = None,
) -> dict[str, ExportedTable]:
    """Write the tables of an archive that ``verify_archive`` has read before, into ``folder``.

    The columns' types stand at the archive's end, hence the second pass; what it reads must be
    what was verified. Nothing is left of a failure. Raises the ArchiveErrors, UsageError.
    """
    with _export_folder(folder) as opened:
        writers = {
            name: _TableWriter(name, entry, opened(f"{name}.{form}"), form, with_data_keys)
            for name, entry in verified.manifest.tables.items()
        }
        archive = open_archive(source, identities, limits)
        for part in archive.parts():
            _write_part(writers, part)
            if progress is not None:
                progress(archive.size_bytes)
        if archive.sha256 != verified.sha256:
            raise ArchiveAltered("the file was changed while it was exported")
    return {
        name: ExportedTable(folder / f"{name}.{form}", writer.columns, writer.rows)
        for name, writer in writers.items()
    }


def _write_part(writers: Mapping[str, _TableWriter], part: Part) -> None:
    writer = writers.get(part.table)
    if writer is None:
        raise ArchiveAltered("the file was changed while it was exported")
    for row in split_tuples(part.copy):
        writer.add(split_fields(row))


class _TableWriter:
    """Decode the rows of one table into its file."""

    def __init__(
        self, name: str, entry: TableEntry, file: TextIO, form: Format, with_data_keys: bool
    ) -> None:
        left_out = KEYRING_DATA_KEY if name == KEYRING and not with_data_keys else None
        self._fields = [
            (index, decoder_of(column.type))
            for index, column in enumerate(entry.columns)
            if index != left_out
        ]
        self.columns = tuple(entry.columns[index].name for index, _ in self._fields)
        self.rows = 0
        self._name = name
        self._width = len(entry.columns)
        self._file = file
        self._render = _csv_line if form == "csv" else _json_lines(self.columns)
        if form == "csv":
            file.write(_csv_line(self.columns))

    def add(self, row: Sequence[bytes | None]) -> None:
        """Write one row. Raises ArchiveMalformed when it does not fit the columns."""
        if len(row) != self._width:
            raise ArchiveMalformed(f"a row of {self._name} has another number of fields")
        values = [
            None if (data := row[index]) is None else decode(data) for index, decode in self._fields
        ]
        self._file.write(self._render(values))
        self.rows += 1


def _csv_line(values: Sequence[Value | None]) -> str:
    return ",".join(map(_csv_field, values)) + "\n"


def _csv_field(value: Value | None) -> str:
    """Return a field as PostgreSQL's COPY in CSV reads it: NULL is empty, text is quoted."""
    if value is None:
        return ""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return str(value).lower()


def _json_lines(columns: Sequence[str]) -> Callable[[Sequence[Value | None]], str]:
    heads = [json.dumps(name, ensure_ascii=False) + ":" for name in columns]

    def render(values: Sequence[Value | None]) -> str:
        fields = (head + _json_value(value) for head, value in zip(heads, values, strict=True))
        return "{" + ",".join(fields) + "}\n"

    return render


def _json_value(value: Value | None) -> str:
    return value if isinstance(value, RawJson) else json.dumps(value, ensure_ascii=False)


@contextmanager
def _export_folder(folder: Path) -> Iterator[Callable[[str], TextIO]]:
    """Yield what opens files in ``folder`` (0700, the files 0600); leave none of a failure."""
    made = _take_folder(folder)
    names: list[Path] = []
    try:
        with ExitStack() as files:

            def opened(name: str) -> TextIO:
                path = folder / name
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                names.append(path)
                file = os.fdopen(handle, "w", _BUFFER_BYTES, encoding="utf-8", newline="\n")
                return files.enter_context(file)

            yield opened
    except BaseException as error:
        for path in names:
            path.unlink(missing_ok=True)
        if made:
            folder.rmdir()
        if isinstance(error, OSError):
            raise UsageError(f"{folder} cannot be written: {error.strerror}") from error
        raise


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds something. Raises UsageError."""
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}") from error
    if taken:
        raise UsageError(
            f"{folder} exists and is not an empty folder",
            hint="Name a folder that does not exist, or an empty one.",
        )


def _take_folder(folder: Path) -> bool:
    """Make ``folder``, or take an empty one; return whether it was made. Raises UsageError."""
    check_folder(folder)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        folder.chmod(0o700)
        return False
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be made: {error.strerror}") from error
    return True
