"""An export holds every value of every type, and no data key unless it is asked for."""

from __future__ import annotations

import base64
import csv
import io
import json
import stat
import struct
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.archive.export import Format, export_archive
from shared.archive.values import DECODERS, RawJson, decoder_of
from shared.archive.verify import verify_archive
from shared.errors import ArchiveAltered, ArchiveMalformed, UsageError
from tests.unit.archive.building import (
    COLUMNS,
    TABLE,
    TABLES,
    Built,
    Row,
    build,
    data_key_row,
    project,
    timestamp,
)

DATA_KEY = bytes(range(32))


def export(archive: Built, folder: Path, form: Format = "jsonl", keys: bool = False) -> None:
    identities = [archive.key.identity]
    verified = verify_archive(io.BytesIO(archive.data), identities)
    source = io.BytesIO(archive.data)
    export_archive(source, identities, verified, folder, form, with_data_keys=keys)


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("bigint", struct.pack(">q", -(2**63)), -(2**63)),
        ("integer", b"\xff\xff\xff\xff", -1),
        ("smallint", b"\x7f\xff", 32_767),
        ("boolean", b"\0", False),
        ("boolean", b"\1", True),
        ("bytea", b"", ""),
        ("bytea", b"\xfb\xff\0", "+/8A"),
        ("text", "ä\n€".encode(), "ä\n€"),
        ("uuid", bytes(range(16)), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        ("jsonb", b'\1{"a": 1.10}', '{"a": 1.10}'),
        ("timestamp with time zone", timestamp(-1), "1999-12-31T23:59:59.999999Z"),
        ("timestamp with time zone", timestamp(2**63 - 1), "infinity"),
        ("timestamp with time zone", timestamp(-(2**63)), "-infinity"),
        # PostgreSQL's own ends: SELECT extract(epoch FROM '294276-12-31 23:59:59.999999Z'), 4714 BC.
        (
            "timestamp with time zone",
            timestamp(9_223_371_331_199_999_999),
            "+294276-12-31T23:59:59.999999Z",
        ),
        (
            "timestamp with time zone",
            timestamp(-211_813_488_000_000_000),
            "-4713-11-24T00:00:00.000000Z",
        ),
    ],
)
def test_a_value_is_written_as_the_page_says(kind: str, data: bytes, expected: object) -> None:
    value = decoder_of(kind)(data)
    assert value == expected
    assert type(value) in (type(expected), RawJson)


def test_every_time_that_python_knows_is_written_as_python_does() -> None:
    epoch = datetime(2000, 1, 1, tzinfo=UTC)
    decode = decoder_of("timestamp with time zone")
    for year in [1, 2, 100, 400, 1582, 1900, 1999, 2000, 2024, 2400, 9998, 9999]:
        for moment in (datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, 23, tzinfo=UTC)):
            data = timestamp((moment - epoch) // timedelta(microseconds=1))
            assert decode(data) == moment.strftime(f"{year:04d}-%m-%dT%H:%M:%S.%fZ")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("bigint", bytes(7)), ("integer", bytes(5)), ("smallint", b""), ("boolean", b"\2"),
        ("boolean", b""), ("text", b"\xff"), ("uuid", bytes(15)), ("jsonb", b""),
        ("jsonb", b"\2{}"), ("jsonb", b"\1"), ("jsonb", b"\1{"), ("jsonb", b"\1NaN"),
        ("jsonb", b'\1"a\nb"'), ("jsonb", b"\1" + b"[" * 100_000), ("jsonb", b'\1{}\n{"a":1}'),
        ("timestamp with time zone", bytes(9)),
    ],
)  # fmt: skip
def test_bytes_that_are_not_of_their_type_are_refused(kind: str, data: bytes) -> None:
    with pytest.raises(ArchiveMalformed):
        decoder_of(kind)(data)


def test_every_type_of_the_schema_can_be_exported() -> None:
    used = {column.type for columns in COLUMNS.values() for column in columns}
    assert used <= set(DECODERS)
    with pytest.raises(ArchiveMalformed):
        decoder_of("xml")


SETTING: Row = [
    b"awkward", b'\1{"n": 1.50, "big": 123456789012345678901234567890}', None, timestamp(), b"x",
]  # fmt: skip


def test_json_lines_hold_every_value_and_null(tmp_path: Path) -> None:
    names = ['"quoted", comma', "", "line\nend\r\u2028", "ä€𝄞"]
    rows = [project(name, number=number) for number, name in enumerate(names)]
    rows.append(project("gone", deleted_at=timestamp(5), number=9))
    export(build({TABLE: rows, "settings": [SETTING]}, rows_a_part=2), tmp_path / "out")
    found = [json.loads(line) for line in (tmp_path / "out/projects.jsonl").open(newline="\n")]
    assert [row["name"] for row in found] == [*names, "gone"]
    assert [row["deleted_at"] for row in found] == [None] * 4 + ["2000-01-01T00:00:00.000005Z"]
    assert list(found[0]) == [column.name for column in COLUMNS[TABLE]]
    text = (tmp_path / "out/settings.jsonl").read_text()
    assert '"value":{"n": 1.50, "big": 123456789012345678901234567890},"sealed":null' in text


def test_csv_holds_every_value_and_tells_null_from_empty(tmp_path: Path) -> None:
    names = ['"quoted", comma', "", "line\nend\r", "ä€𝄞", "=1+1"]
    rows = [project(name, number=number) for number, name in enumerate(names)]
    vault: Row = [bytes(16), bytes(16), b"v", b"\1", timestamp(), b"x", None]
    export(build({TABLE: rows, "vaults": [vault]}), tmp_path / "out", "csv")
    with (tmp_path / "out/projects.csv").open(encoding="utf-8", newline="") as file:
        head, *found = list(csv.reader(file))
    assert head == [column.name for column in COLUMNS[TABLE]]
    assert [row[1] for row in found] == names
    second = (tmp_path / "out/projects.csv").read_text(encoding="utf-8").splitlines()[2]
    assert second.split(",")[1:3] == ['""', '""']
    assert second.endswith('"someone",')
    assert (
        (tmp_path / "out/vaults.csv")
        .read_text()
        .endswith('"v",true,"2000-01-01T00:00:00.000000Z","x",\n')
    )


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_data_key_is_left_out_unless_it_is_asked_for(tmp_path: Path, form: Format) -> None:
    archive = build({"keyring": [data_key_row(DATA_KEY)]})
    shown = base64.b64encode(DATA_KEY).decode()
    export(archive, tmp_path / "without", form)
    export(archive, tmp_path / "with", form, keys=True)
    without, with_keys = (
        (tmp_path / name / f"keyring.{form}").read_text() for name in ("without", "with")
    )
    assert shown in with_keys and "data_key" in with_keys
    assert shown not in without and "data_key" not in without
    assert "check_value" in without


def test_every_table_has_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    export(build(), tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == sorted(f"{name}.jsonl" for name in TABLES)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path, tmp_path / "file", tmp_path / "file" / "in", tmp_path / "no" / "way"):
        with pytest.raises(UsageError):
            export(build(), folder)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_empty_folder_is_taken_and_closed(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir(mode=0o755)
    export(build(), folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("made", [True, False])
def test_nothing_is_left_of_an_export_that_failed(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "out"
    if not made:
        folder.mkdir()
    bad = build({TABLE: [project("good"), project(b"\xff", number=2)]})
    with pytest.raises(ArchiveMalformed):
        export(bad, folder)
    assert folder.exists() is not made
    assert made or not any(folder.iterdir())


def test_a_row_with_other_fields_than_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveMalformed):
        export(build({TABLE: [project("x")[:-1]]}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_exchanged_behind_the_check_leaves_nothing(tmp_path: Path) -> None:
    first, second = build({TABLE: [project("a")]}), build({TABLE: [project("b")]})
    verified = verify_archive(io.BytesIO(first.data), [first.key.identity])
    with pytest.raises(ArchiveAltered):
        export_archive(
            io.BytesIO(second.data), [first.key.identity], verified, tmp_path / "out", "csv"
        )
    assert not (tmp_path / "out").exists()


def test_memory_is_flat_however_many_parts_there_are(tmp_path: Path) -> None:
    peaks = []
    for parts in (2, 16):
        rows = [project("x" * 1000, number=number) for number in range(parts * 50)]
        archive = build({TABLE: rows}, rows_a_part=50)
        identities = [archive.key.identity]
        verified = verify_archive(io.BytesIO(archive.data), identities)
        tracemalloc.start()
        export_archive(io.BytesIO(archive.data), identities, verified, tmp_path / str(parts), "csv")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5
