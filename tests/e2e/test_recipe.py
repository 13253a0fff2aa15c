"""The recipe of the README, line by line as it stands there, into an empty PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg import conninfo

from tests.documents import plain
from tests.plugins.live import Json, Live
from tests.plugins.postgres import TestPostgres

ROOT = Path(__file__).parents[2]
TOOLS = ("age", "age-keygen", "jq", "openssl", "basenc", "zstd", "tar", "psql", "node")
PLACE_COLUMNS = {"keyring": {"wrapped", "root_key_id", "data_key"}}


@pytest.fixture(autouse=True)
def _tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        message = f"the recipe's tools are not all here: {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def recipe() -> str:
    """Return the shell lines that follow the README's mark."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- recipe -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def follow(script: str, folder: Path, dsn: str) -> None:
    address = conninfo.conninfo_to_dict(dsn)
    libpq = {
        "PGHOST": address["host"],
        "PGPORT": address["port"],
        "PGUSER": address["user"],
        "PGDATABASE": address["dbname"],
        "PGPASSFILE": address["passfile"],
    }
    inside = folder / "restored"
    inside.mkdir()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=inside,
        env=os.environ | {name: str(value) for name, value in libpq.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def made_for(live: Live, folder: Path, recipient: str) -> Json:
    asked = live.services.backups.create("the recipe", recipients=[recipient])
    backup = live.services.backups.wait(asked["backup_id"])
    assert backup["state"] == "created", backup["error"]
    live.services.backups.download(backup["backup_id"], folder / "backup.age")
    return plain(backup)


def rows_of(conn: psycopg.Connection[Any], schema: str, table: str) -> list[str]:
    left_out = PLACE_COLUMNS.get(table, set())
    columns = [
        row[0]
        for row in conn.execute(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s ORDER BY 1",
            (schema, table),
        )
        if row[0] not in left_out
    ]
    query = (
        f"SELECT row_to_json(r)::text FROM (SELECT {', '.join(columns)} FROM {schema}.{table}) r"
    )
    return sorted(row[0] for row in conn.execute(query.encode()))


def assert_equal(live: Live, backup: Json, dsn: str) -> None:
    """Compare every row of every table with the instance."""
    assert len(backup["tables"]) >= 15
    with live.admin() as instance, psycopg.connect(dsn) as by_hand:
        for conn in (instance, by_hand):
            conn.execute("SET timezone = 'UTC'")
        for table, facts in backup["tables"].items():
            found = rows_of(by_hand, "secryn", table)
            assert len(found) == facts["rows"], table
            assert found == rows_of(instance, "instance", table), table


def assert_a_secret_opens(live: Live, dsn: str) -> None:
    """Open one secret with what the file alone gave, as FORMAT.md tells it."""
    with psycopg.connect(dsn) as conn:
        row = conn.execute(
            "SELECT p.name || '/' || v.name || '/' || s.name, s.id, x.version, x.sealed "
            "FROM secryn.secrets s JOIN secryn.vaults v ON v.id = s.vault_id "
            "JOIN secryn.projects p ON p.id = v.project_id "
            "JOIN secryn.secret_versions x ON x.secret_id = s.id AND x.version = s.current_version "
            "WHERE s.deleted_at IS NULL AND v.deleted_at IS NULL AND p.deleted_at IS NULL LIMIT 1"
        ).fetchone()
        assert row is not None
        path, owner, version, sealed = row
        key = conn.execute(
            "SELECT data_key FROM secryn.keyring WHERE uuid_send(id) = %s", (sealed[1:17],)
        ).fetchone()
    assert key is not None
    value = AESGCM(key[0]).decrypt(
        sealed[17:29], sealed[29:], f"secryn:secret:{owner}:{version}".encode()
    )
    shown = json.loads(live.stack.secryn("instance", "secret", path).stdout)
    assert value.decode() == shown["value"]


def test_the_recipe_restores_into_an_empty_postgresql_with_the_age_tool(
    live: Live, postgres: TestPostgres, tmp_path: Path
) -> None:
    subprocess.run(["age-keygen", "-o", tmp_path / "own.key"], check=True, capture_output=True)
    public = subprocess.run(
        ["age-keygen", "-y", tmp_path / "own.key"], check=True, capture_output=True, text=True
    ).stdout.strip()
    backup = made_for(live, tmp_path, public)
    # A key of one's own has no comment lines: who signed comes from the event.
    named = f"# signer: {backup['signer']}\n" + (tmp_path / "own.key").read_text()
    (tmp_path / "backup.key").write_text(named)
    dsn = postgres.fresh_database()
    follow(recipe(), tmp_path, dsn)
    assert_equal(live, backup, dsn)
    assert_a_secret_opens(live, dsn)


def test_a_post_quantum_file_opens_by_the_same_recipe_with_another_implementation(
    live: Live, postgres: TestPostgres, tmp_path: Path
) -> None:
    backup, key = live.backup()
    (tmp_path / "backup.key").write_text(key)
    live.archive(backup, tmp_path).rename(tmp_path / "backup.age")
    other = f'node "{ROOT}/tests/interop/age.mjs" decrypt ../backup.key < ../backup.age'
    script = recipe().replace("age -d -i ../backup.key ../backup.age", other)
    assert other in script
    dsn = postgres.fresh_database()
    follow(script, tmp_path, dsn)
    assert_equal(live, backup, dsn)


@pytest.mark.parametrize("member", ["backup.json", "tables/secrets/000000.copy.zst"])
def test_the_recipe_stops_at_what_was_altered(
    live: Live, postgres: TestPostgres, tmp_path: Path, member: str
) -> None:
    backup, key = live.backup()
    (tmp_path / "backup.key").write_text(key)
    live.archive(backup, tmp_path).rename(tmp_path / "backup.age")
    open_it = f'node "{ROOT}/tests/interop/age.mjs" decrypt ../backup.key < ../backup.age'
    script = recipe().replace(
        "age -d -i ../backup.key ../backup.age | tar -x",
        f"{open_it} | tar -x\nprintf x >> {member}",
    )
    with pytest.raises(AssertionError, match="WARNING: 1 computed checksum"):
        follow(script, tmp_path, postgres.fresh_database())
