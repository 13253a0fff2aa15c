"""The audit trail for whoever may read it: filtered, page by page, taken away, verified, on a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from serving.audit.checkpoints import CheckpointKeeper
from serving.audit.reader import BATCH
from shared.audit import AuditEntry, entry_hash, open_checkpoint
from shared.audit.exported import verify_lines
from tests.plugins.postgres import TestPostgres
from tests.serving_api import BEARER, BackupServer

Json = dict[str, Any]


@pytest.fixture(scope="module")
def shared(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BackupServer]:
    server = BackupServer.create(postgres, tmp_path_factory.mktemp("audit"))
    yield server
    server.context.pool.close()


@pytest.fixture
def own(postgres: TestPostgres, tmp_path: Path) -> Iterator[BackupServer]:
    """A trail of the test's own, to be broken."""
    server = BackupServer.create(postgres, tmp_path)
    yield server
    server.context.pool.close()


def note(server: BackupServer, actor: str, action: str = "key.view", **more: Any) -> None:
    told = {"outcome": "success", "resource_type": "key", "resource_id": "b-1", "source": "test"}
    server.context.record(AuditEntry(action, actor=actor, **{**told, **more}), f"corr {actor}")


def asked(server: BackupServer, path: str = "", **query: Any) -> Json:
    answer = client(server).get(f"/api/v1/audit{path}", query_string=query, headers=BEARER)
    assert answer.status_code == 200, answer.get_json()
    document: Json = answer.get_json()
    return document


def client(server: BackupServer) -> FlaskClient:
    return server.app.test_client()


def seqs(page: Json) -> list[int]:
    return [entry["seq"] for entry in page["entries"]]


def exported(server: BackupServer, **query: Any) -> list[bytes]:
    answer = client(server).get("/api/v1/audit/export", query_string=query, headers=BEARER)
    assert (answer.status_code, answer.mimetype) == (200, "application/x-ndjson")
    return answer.get_data().splitlines(keepends=True)


def execute(server: BackupServer, statement: str, *values: object) -> None:
    with server.context.pool.connection() as conn:
        conn.execute(statement.encode("ascii"), values)


def test_each_filter_names_its_entries_and_no_others(shared: BackupServer) -> None:
    name = f"anna {uuid4()}"
    note(shared, name)
    note(shared, name, "key.view", outcome="failure", code="access.denied")
    note(shared, name, "keyring.rotate", resource_type="keyring", resource_id="k-7")
    for query, count in (
        ({}, 3), ({"action": "key.view"}, 2), ({"action": "key"}, 2), ({"action": "ke"}, 0),
        ({"outcome": "failure"}, 1), ({"outcome": "success"}, 2), ({"code": "access.denied"}, 1),
        ({"resource": "k-7"}, 1), ({"resource_type": "key"}, 2), ({"resource": "k"}, 0),
        ({"correlation_id": f"corr {name}"}, 3), ({"until": "2020-01-01T00:00:00Z"}, 0),
        ({"since": "2020-01-01T00:00:00Z"}, 3),
    ):  # fmt: skip
        found = asked(shared, actor=name, **query)
        assert len(found["entries"]) == count, query
        lines = exported(shared, actor=name, **query)
        assert [json.loads(line)["seq"] for line in lines] == seqs(found)[::-1]


def test_pages_tell_each_entry_once_while_others_are_written(shared: BackupServer) -> None:
    name = f"berta {uuid4()}"
    for _ in range(7):
        note(shared, name)
    page, found = asked(shared, actor=name, limit=3), []
    while True:
        found += seqs(page)
        if page["next_cursor"] is None:
            break
        note(shared, name)
        page = asked(shared, actor=name, limit=3, cursor=page["next_cursor"])
    assert len(found) == len(set(found)) == 7
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize(
    "query",
    [
        {"outcome": "perhaps"}, {"cursor": "x"}, {"cursor": "WzBd"}, {"cursor": "WyIxIl0"},
        {"limit": 0}, {"limit": 1001}, {"since": "yesterday"}, {"action": "' OR 1"}, {"actor": "\0"},
        {"colour": "red"},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_and_named(shared: BackupServer, query: Json) -> None:
    for path in ("/api/v1/audit", "/admin/audit"):
        answer = client(shared).get(path, query_string=query, headers=BEARER)
        if path == "/admin/audit" and "outcome" not in query and "since" not in query:
            continue
        assert answer.status_code == 400
        assert "usage.invalid" in answer.get_data(as_text=True)


def test_an_export_is_verified_anywhere_and_is_an_entry_itself(own: BackupServer) -> None:
    """More than one batch; the text of a stranger, too."""
    for number in range(BATCH + 3):
        with own.context.pool.connection() as conn:
            entry = AuditEntry("x.y", "failure", "\u2028\n\0 {", "key", str(number))
            own.context.audit.record(conn, entry, "corr")
    assert CheckpointKeeper(own.context.audit_reader).sign()
    lines = exported(own)
    keys = [own.context.signer.public]
    ((service, (report, bad)),) = verify_lines(lines, keys).items()
    assert (service, bad, report.intact) == ("backup_service", None, True)
    assert (report.entries, report.signed_through) == (BATCH + 5, BATCH + 3)
    last = json.loads(lines[-1])
    assert (last["api"]["operation"], last["actor"]["user"]["name"]) == ("audit.export", "operator")
    fewer = verify_lines([*lines[:9], *lines[10:]], keys)["backup_service"]
    assert (fewer[0].bad_seq, (fewer[1] or {})["seq"]) == (10, 11)


def test_the_chain_is_verified_and_signed_once_for_what_is_new(own: BackupServer) -> None:
    reader, keeper = own.context.audit_reader, CheckpointKeeper(own.context.audit_reader)
    assert not keeper.sign()
    note(own, "anna")
    assert keeper.sign()
    assert not keeper.sign()
    note(own, "berta")
    report = asked(own, "/verify")
    assert (report["intact"], report["entries"], report["signed_through"]) == (True, 3, 1)
    kept = open_checkpoint(report["checkpoint"], [own.context.signer.public])
    assert (kept.size, kept.head, kept.service) == (3, report["head"], "backup_service")
    assert str(reader.instance_id) in kept.origin
    note(own, "carla")
    assert asked(own, "/verify", size=kept.size, head=kept.head)["intact"]
    assert asked(own, "/verify", size=kept.size, head="0" * 64)["bad_seq"] == 3


def test_the_first_bad_entry_is_named_and_told(own: BackupServer) -> None:
    for name in ("anna", "<b>berta</b>", "carla"):
        note(own, name)
    kept = open_checkpoint(asked(own, "/verify")["checkpoint"], None)
    execute(
        own,
        "UPDATE backup.events SET data = jsonb_set(data, '{status}', '\"Failure\"') "
        "WHERE stream = 'audit' AND version = 2",
    )
    report = asked(own, "/verify")
    assert (report["intact"], report["bad_seq"], report["entries"]) == (False, 2, 1)
    assert report["reason"] == "entry 2 was changed"
    assert report["bad_entry"]["actor"]["user"]["name"] == "<b>berta</b>"
    assert report["checkpoint"] is None
    told = asked(own, action="audit.verify")["entries"][0]
    assert (told["status_code"], told["unmapped"]["details"]) == (
        "audit.chain_broken", {"bad_seq": 2},
    )  # fmt: skip
    page = client(own).get("/admin/audit/chain", headers=BEARER).get_data(as_text=True)
    assert "Entry 2 was changed" in page
    assert "Broken" in page
    assert "<b>berta" not in page
    execute(own, "DELETE FROM backup.events WHERE stream = 'audit' AND version > 2")
    assert asked(own, "/verify", size=kept.size, head=kept.head)["bad_seq"] == 2


def test_a_chain_that_is_made_anew_without_the_key_is_found(own: BackupServer) -> None:
    """Whoever can write the table hashes all entries anew: the checkpoint is not signed for that."""
    for name in ("anna", "berta"):
        note(own, name)
    assert CheckpointKeeper(own.context.audit_reader).sign()
    with own.context.pool.connection() as conn:
        entries = [event.data for event in own.context.store.read_stream(conn, "audit")]
    entries[0]["actor"]["user"]["name"] = "somebody else"
    previous = entries[0]["prev_hash"]
    for entry in entries:
        entry["prev_hash"] = previous
        previous = entry["hash"] = entry_hash(entry)
        execute(
            own, "UPDATE backup.events SET data = %s WHERE stream = 'audit' AND version = %s",
            json.dumps(entry), entry["seq"],
        )  # fmt: skip
    report = asked(own, "/verify")
    assert (report["bad_seq"], report["reason"]) == (3, "entry 3 is a checkpoint of another chain")


def test_the_page_shows_filters_and_what_it_gives_away(shared: BackupServer) -> None:
    name = f"dora <i>{uuid4()}"
    note(shared, name, outcome="failure", code="access.denied", message="no <b>right</b>")
    query = {"actor": name, "since": "2020-01-01"}
    page = client(shared).get("/admin/audit", query_string=query, headers=BEARER)
    text = page.get_data(as_text=True)
    assert page.status_code == 200
    assert "access.denied" in text
    assert "<i>" not in text
    assert "<b>right" not in text
    assert "/api/v1/audit/export?actor=dora+%3Ci%3E" in text
    assert "since=2020-01-01T00%3A00%3A00Z" in text
    assert 'hx-get="/admin/audit/chain"' in text
    nothing = client(shared).get("/admin/audit?actor=nobody", headers=BEARER)
    assert "No entry by this filter" in nothing.get_data(as_text=True)
