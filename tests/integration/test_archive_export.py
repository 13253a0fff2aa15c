"""An archive of a real instance, offline: verified, exported, every row equal to PostgreSQL's."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg import sql
from typer.testing import CliRunner

from cli.archive import app
from shared.instance.keyring import Keyring
from shared.instance.tables import list_tables
from tests.plugins.live import Live


def run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def rows_of(file: Path) -> list[dict[str, Any]]:
    with file.open(encoding="utf-8", newline="\n") as opened:
        return [json.loads(line) for line in opened]


def test_an_export_equals_the_instance_and_its_data_keys_open_a_secret(
    live: Live, tmp_path: Path
) -> None:
    live.write(200)
    backup, key = live.backup()
    archive, key_file, out = live.archive(backup, tmp_path), tmp_path / "key.txt", tmp_path / "out"
    key_file.write_text(key, encoding="utf-8")
    given = (str(archive), "--key-file", str(key_file))
    verified = run("verify", *given)
    assert (verified["trusted_by"], verified["sha256"]) == ("key_file", backup["sha256"])
    run("export", *given, "--format", "jsonl", "-o", str(out), "--with-data-keys")

    with live.admin() as conn:
        conn.execute("SET timezone TO 'UTC'")
        for table in list_tables(conn, "instance"):
            if table.name == "keyring":
                continue
            fields = [
                sql.SQL(
                    'to_char({0}, \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\') AS {0}'
                    if column.type == "timestamp with time zone"
                    else "replace(encode({0}, 'base64'), chr(10), '') AS {0}"
                    if column.type == "bytea"
                    else "{0}"
                ).format(sql.Identifier(column.name))
                for column in table.columns
            ]
            query = sql.SQL("SELECT row_to_json(t) FROM (SELECT {} FROM {}) t")
            stored = [
                row[0]
                for row in conn.execute(query.format(sql.SQL(", ").join(fields), table.identifier))
            ]
            exported = rows_of(out / f"{table.name}.jsonl")
            assert sorted(map(json.dumps, exported)) == sorted(map(json.dumps, stored)), table.name
            assert len(exported) == verified["tables"][table.name]["rows"]

    ciphers = {
        UUID(row["id"]): AESGCM(base64.b64decode(row["data_key"]))
        for row in rows_of(out / "keyring.jsonl")
    }
    secret = rows_of(out / "secret_versions.jsonl")[0]
    sealed = base64.b64decode(secret["sealed"])
    value = Keyring(ciphers, {}).unseal(
        sealed, "secret", UUID(secret["secret_id"]), secret["version"]
    )
    assert len(value) == secret["size_bytes"]
