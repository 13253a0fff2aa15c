"""One archive of every format and schema version, kept as it was written: still read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.archive.keyfile import read_key_file
from shared.archive.trust import check_trust
from shared.archive.verify import verify_archive
from shared.instance.migrate import newest_version

GOLDEN = sorted((Path(__file__).parents[2] / "vectors").glob("golden-v*"))


def test_there_is_one_of_every_format_and_schema_version() -> None:
    assert [folder.name for folder in GOLDEN] == ["golden-v1", "golden-v1-schema-2"]
    versions = [
        json.loads((folder / "expected.json").read_text(encoding="utf-8"))["schema_version"]
        for folder in GOLDEN
    ]
    assert versions == list(range(1, newest_version() + 1))


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda folder: folder.name)
def test_it_verifies_to_what_was_noted_when_it_was_written(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    key = read_key_file(folder / "backup.key")
    with (folder / "backup.age").open("rb") as source:
        verified = verify_archive(source, [key.identity])
    manifest = verified.manifest
    assert manifest.digest == expected["digest"]
    assert {name: entry.rows for name, entry in manifest.tables.items()} == expected["rows"]
    assert str(manifest.backup.backup_id) == expected["backup_id"]
    assert check_trust(manifest, verified.sha256, key, frozenset(), None) == "key_file"
