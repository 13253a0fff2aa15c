"""`secryn archive`: offline on a file and a key, with one JSON document and an exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.archive import app
from shared.archive.age import X25519Identity
from shared.archive.keyfile import KeyFile
from tests.unit.archive.building import (
    HEADER,
    OTHER_SIGNER,
    SIGNER,
    TABLE,
    TABLES,
    Built,
    build,
    data_key_row,
    project,
)

ARCHIVE = build({TABLE: [project("a"), project("b", number=2)], "keyring": [data_key_row()]})


class Files:
    """An archive and its key in a folder, and the command on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, archive: Built = ARCHIVE, key: KeyFile | None = None) -> Files:
        (self.folder / "backup.age").write_bytes(archive.data)
        (self.folder / "key.txt").write_text((key or archive.key).render(), encoding="utf-8")
        return self

    def run(self, name: str, *options: str) -> Result:
        paths = [str(self.folder / "backup.age"), "--key-file", str(self.folder / "key.txt")]
        return CliRunner().invoke(app, [name, *paths, *options])

    def json(self, name: str, *options: str) -> tuple[int, dict[str, Any]]:
        result = self.run(name, "--json", *options)
        return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path).put()


@pytest.mark.parametrize("name", ["inspect", "verify"])
def test_it_says_what_the_archive_is_and_why_it_is_trusted(files: Files, name: str) -> None:
    code, said = files.json(name)
    assert code == 0
    assert said["backup_id"] == str(HEADER.backup_id)
    assert (said["offset"], said["epoch"], said["schema_version"]) == (42, 1, 1)
    assert (said["size_bytes"], said["sha256"]) == (len(ARCHIVE.data), ARCHIVE.key.sha256)
    assert (said["signer"], said["trusted_by"]) == (SIGNER.fingerprint, "key_file")
    assert said["digest"] == ARCHIVE.manifest.digest
    assert list(said["tables"]) == list(TABLES)
    assert said["tables"][TABLE]["rows"] == 2
    assert said["tables"][TABLE]["digest"] == ARCHIVE.manifest.tables[TABLE].digest
    assert said["rows"] == 3
    assert said.get("verified") is (True if name == "verify" else None)


@pytest.mark.parametrize("name", ["inspect", "verify"])
def test_a_person_reads_the_same(files: Files, name: str) -> None:
    result = files.run(name)
    assert result.exit_code == 0
    for text in (str(HEADER.backup_id), str(ARCHIVE.key.sha256), SIGNER.fingerprint, TABLE):
        assert text in result.stdout
    assert ("Verified" in result.stdout) is (name == "verify")


def test_a_bare_key_shows_and_does_not_verify_unless_the_signer_is_named(files: Files) -> None:
    files.put(key=KeyFile(ARCHIVE.key.identity))
    assert files.json("inspect")[1]["trusted_by"] is None
    code, said = files.json("verify")
    assert (code, said["error"]["code"]) == (6, "archive.signer_untrusted")
    code, said = files.json("verify", "--trust-signer", OTHER_SIGNER.fingerprint)
    assert (code, said["error"]["code"]) == (6, "archive.signer_untrusted")
    code, said = files.json("verify", "--trust-signer", SIGNER.fingerprint)
    assert (code, said["trusted_by"]) == (0, "caller")


def test_a_newer_schema_is_shown_and_not_verified(files: Files) -> None:
    files.put(build(header=HEADER.model_copy(update={"schema_version": 99})))
    assert files.json("inspect")[0] == 0
    code, said = files.json("verify")
    assert (code, said["error"]["code"]) == (6, "archive.schema_too_new")


@pytest.mark.parametrize("name", ["inspect", "verify"])
def test_a_wrong_key_and_a_cut_file_are_told_apart(files: Files, name: str) -> None:
    files.put(key=replace(ARCHIVE.key, identity=X25519Identity.generate()))
    assert files.json(name)[1]["error"]["code"] == "archive.wrong_key_or_header"
    files.put(replace(ARCHIVE, data=ARCHIVE.data[:-1]))
    assert files.json(name)[1]["error"]["code"] == "archive.damaged"
    files.put(build())
    (files.folder / "key.txt").write_text(ARCHIVE.key.render())
    assert files.json(name)[1]["error"]["code"] == "archive.altered"


@pytest.mark.parametrize("missing", ["backup.age", "key.txt"])
def test_a_missing_file_is_named(files: Files, missing: str) -> None:
    (files.folder / missing).unlink()
    code, said = files.json("verify")
    assert (code, said["error"]["code"]) == (2, "usage.invalid")
    assert missing in said["error"]["message"]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_export_writes_a_file_a_table(files: Files, form: str) -> None:
    out = files.folder / "out"
    code, said = files.json("export", "--format", form, "-o", str(out))
    assert code == 0
    assert {path.name for path in out.iterdir()} == {f"{name}.{form}" for name in TABLES}
    assert said["tables"][TABLE] == {
        "file": str(out / f"{TABLE}.{form}"),
        "rows": 2,
        "columns": ["id", "name", "description", "created_at", "created_by", "deleted_at"],
    }
    assert "data_key" not in said["tables"]["keyring"]["columns"]


def test_an_export_with_data_keys_warns(files: Files) -> None:
    options = ["--format", "csv", "-o", str(files.folder / "out"), "--with-data-keys"]
    result = files.run("export", *options)
    assert result.exit_code == 0
    assert "opens every secret" in result.stderr
    assert "data_key" in (files.folder / "out/keyring.csv").read_text()


def test_an_export_of_an_untrusted_or_into_a_used_folder_writes_nothing(files: Files) -> None:
    code, said = files.json("export", "--format", "csv", "-o", str(files.folder))
    assert (code, said["error"]["code"]) == (2, "usage.invalid")
    files.put(key=KeyFile(ARCHIVE.key.identity))
    code, said = files.json("export", "--format", "csv", "-o", str(files.folder / "out"))
    assert (code, said["error"]["code"]) == (6, "archive.signer_untrusted")
    assert {path.name for path in files.folder.iterdir()} == {"backup.age", "key.txt"}
