"""`backup adopt`: a history comes back from the receipts in the storage, and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from backup_service import events as ev
from backup_service.commands import AdoptBackup, CreateBackup
from backup_service.context import object_name, receipt_name
from backup_service.handlers.adopt_backup import adopt_backup, list_receipts
from backup_service.handlers.create_backup import create_backup
from backup_service.handlers.request_backup import request_backup
from backup_service.handlers.verify_backup import verify_backup
from backup_service.handlers.view_key import ViewKey, view_key
from shared.archive.age import HybridIdentity, open_sealed
from shared.archive.receipt import MAX_RECEIPT_BYTES, encode_receipt
from shared.errors import AccessError, KeyExpired
from shared.eventstore import EventMeta, NewEvent
from shared.messages import SigningKey
from tests.backing import Backing
from tests.plugins.kafka import TestKafka
from tests.plugins.live import Json
from tests.plugins.postgres import TestPostgres

HISTORY = ("events", "deliveries", "backups", "waiting_keys")


@pytest.fixture
def backing(postgres: TestPostgres, kafka: TestKafka, tmp_path: Path) -> Iterator[Backing]:
    made = Backing.create(postgres, kafka, tmp_path)
    with made.stack:
        with made.projector():
            made.writer.wait_until_stored(made.add("a project"), 20)
        yield made


def made(backing: Backing, reason: str = "a test", *recipients: str) -> Json:
    """Make a backup; return it as the history shows it."""
    command = CreateBackup(
        command_id=uuid4(), reason=reason, recipients=recipients, at_position=True
    )
    asked = request_backup(backing.context, command, backing.admin)
    create_backup(backing.context, asked["backup_id"])
    backup = shown(backing, asked["backup_id"])
    assert backup["state"] == "created", backup["error"]
    return backup


def shown(backing: Backing, backup_id: str) -> Json:
    with backing.context.pool.connection() as conn:
        return backing.context.history.get(conn, backup_id)


def forget(backing: Backing, *tables: str) -> None:
    for table in tables or HISTORY:
        backing.execute(f"TRUNCATE backup.{table}")


def adopt(backing: Backing, backup: Json, trust_signer: str | None = None) -> Json:
    command = AdoptBackup(trust_signer=trust_signer)
    return adopt_backup(backing.context, backup["backup_id"], command, backing.admin)


def view(backing: Backing, backup: Json) -> str:
    viewer = HybridIdentity.generate()
    command = ViewKey(request_id=uuid4(), recipient=viewer.to_recipient().encode())
    answer = view_key(backing.context, backup["backup_id"], command, backing.admin)
    return open_sealed(bytes.fromhex(answer["sealed_key"]), [viewer], 1 << 16).decode()


def rewrite(backing: Backing, name: str, change: Callable[[bytes], bytes]) -> None:
    path = backing.context.settings.storage.folder / name
    path.write_bytes(change(path.read_bytes()))


def signed_anew(key: SigningKey, /, **changes: Any) -> Callable[[bytes], bytes]:
    """Return a change of a receipt that is signed as if it were right."""

    def change(content: bytes) -> bytes:
        facts = json.loads(content)["receipt"] | {"signer": key.fingerprint} | changes
        kept = {name: value for name, value in facts.items() if value is not ...}
        return encode_receipt(kept, key)

    return change


def test_what_the_receipt_says_is_in_the_history_again(backing: Backing) -> None:
    before = made(backing, "before the loss")
    forget(backing)
    assert adopt(backing, before)["outcome"] == "adopted"
    after = shown(backing, before["backup_id"])
    changed = {
        "created_at", "requested_at", "correlation_id", "key_state", "key_expires_at",
        "wait_for_restore",
    }  # fmt: skip
    assert {name: after[name] for name in before if name not in changed} == {
        name: before[name] for name in before if name not in changed
    }
    assert (after["adopted_by"], after["trusted_by"]) == ("anna", "signer")
    assert after["created_at"] == before["proven_at"]
    assert verify_backup(backing.context, before["backup_id"], backing.admin)["intact"]
    (event,) = backing.events(ev.ADOPTED)
    assert (event.actor, event.data["backup_id"]) == ("anna", before["backup_id"])
    (entry,) = backing.audited("backup.adopt")
    assert entry["status"] == "Success"
    with backing.context.pool.connection() as conn:
        present = backing.context.history.get(conn, before["backup_id"])
        backing.context.history.rebuild(conn)
        assert backing.context.history.get(conn, before["backup_id"]) == present


def test_the_command_that_made_it_is_answered_as_before_when_it_comes_again(
    backing: Backing,
) -> None:
    command = CreateBackup(command_id=uuid4(), reason="before the loss", at_position=True)
    create_backup(
        backing.context, request_backup(backing.context, command, backing.admin)["backup_id"]
    )
    forget(backing)
    adopt(backing, {"backup_id": str(command.backup_id)})
    again = request_backup(backing.context, command, backing.admin)
    assert (again["backup_id"], again["state"]) == (str(command.backup_id), "created")


def test_a_key_that_waited_is_gone_and_one_that_still_waits_is_not(backing: Backing) -> None:
    gone, waiting, viewed = made(backing), made(backing), made(backing)
    own = made(backing, "own", HybridIdentity.generate().to_recipient().encode())
    view(backing, viewed)
    forget(backing, "events", "deliveries", "backups")
    backing.execute("DELETE FROM backup.waiting_keys WHERE backup_id = %s", UUID(gone["backup_id"]))
    states = []
    for backup in (gone, waiting, viewed, own):
        assert adopt(backing, backup)["outcome"] == "adopted"
        states.append(shown(backing, backup["backup_id"])["key_state"])
    waits_until = shown(backing, waiting["backup_id"])["key_expires_at"]
    assert waits_until == waiting["key_expires_at"]
    told = shown(backing, viewed["backup_id"])
    assert told["key_viewed_by"] == "anna"
    assert told["key_viewed_at"]
    assert states == ["gone", "waiting", "viewed", "own_recipient"]
    assert "AGE-SECRET-KEY-" in view(backing, waiting)
    with pytest.raises(KeyExpired, match="lost with the services' history"):
        view(backing, gone)


def test_again_or_at_once_adopts_once_and_what_is_known_is_left_alone(backing: Backing) -> None:
    known, lost = made(backing), made(backing)
    forget(backing)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: adopt(backing, lost)["outcome"], range(6)))
    assert sorted(answers) == ["adopted"] + ["known"] * 5
    assert len(backing.events(ev.ADOPTED)) == 1
    # One that failed has no object; a receipt that lies there all the same does not revive it.
    data = {
        "backup_id": known["backup_id"], "reason": "r", "recipients": [],
        "recipient_fingerprints": [], "at_position": False,
    }  # fmt: skip
    fault = {"backup_id": known["backup_id"], "error": {"code": "failed"}}
    with backing.context.pool.connection() as conn:
        events = [NewEvent(ev.REQUESTED, data), NewEvent(ev.FAILED, fault)]
        meta = EventMeta("tester", "corr-1")
        backing.context.history.append(conn, known["backup_id"], 0, events, meta)
    before = shown(backing, known["backup_id"])
    answer = adopt(backing, known)
    assert (answer["outcome"], answer["state"]) == ("known", "failed")
    assert shown(backing, known["backup_id"]) == before


Damage = Callable[[Backing, Json], None]


def in_receipt(change: Callable[[bytes], bytes]) -> Damage:
    return lambda backing, backup: rewrite(backing, receipt_name(backup["backup_id"]), change)


def in_object(change: Callable[[bytes], bytes]) -> Damage:
    return lambda backing, backup: rewrite(backing, object_name(backup["backup_id"]), change)


def resigned(**changes: Any) -> Damage:
    """Let this place's own key sign something that no receipt says."""
    return lambda backing, backup: rewrite(
        backing,
        receipt_name(backup["backup_id"]),
        signed_anew(backing.context.signer, **changes),
    )


def swap(backing: Backing, backup: Json) -> None:
    """Put the receipt of another backup, with its object, under this one's name."""
    other = made(backing)
    folder = backing.context.settings.storage.folder
    for name in (receipt_name, object_name):
        (folder / name(other["backup_id"])).replace(folder / name(backup["backup_id"]))


def with_another_key(content: bytes) -> bytes:
    document = json.loads(content)
    document["signer_public_key"] = "00" * 32
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (in_receipt(lambda c: c.replace(b'"reason": "a test"', b'"reason": "b test"')),
         "receipt.invalid"),
        (in_receipt(lambda c: c.replace(b'"signature": "', b'"signature": "00')),
         "receipt.invalid"),
        (in_receipt(lambda c: c.replace(b'"signature": "', b'"signature": "x')), "receipt.invalid"),
        (in_receipt(with_another_key), "receipt.invalid"),
        (in_receipt(lambda c: c[:-20]), "receipt.invalid"),
        (in_receipt(lambda _: b""), "receipt.invalid"),
        (in_receipt(lambda _: b"[" * 200_000), "receipt.invalid"),
        (in_receipt(lambda _: b'{"receipt": NaN}'), "receipt.invalid"),
        (in_receipt(lambda c: c + b" " * MAX_RECEIPT_BYTES), "receipt.invalid"),
        (resigned(offset=-1), "receipt.invalid"),
        (resigned(sha256="x"), "receipt.invalid"),
        (resigned(tables=...), "receipt.invalid"),
        (resigned(signer="SHA256:another"), "receipt.invalid"),
        (resigned(reason="a\0b"), "receipt.invalid"),
        (resigned(reason="\ud800"), "receipt.invalid"),
        (resigned(size_bytes=1), "archive.altered"),
        (swap, "receipt.invalid"),
        (in_receipt(signed_anew(SigningKey(b"\x01" * 32))), "archive.signer_untrusted"),
        (in_object(lambda c: c[:-1]), "archive.truncated"),
        (in_object(lambda c: c[:-1] + bytes([c[-1] ^ 1])), "archive.altered"),
        (in_object(lambda _: b"not age"), "archive.not_age"),
        (lambda b, o: b.context.objects.delete(object_name(o["backup_id"])), "storage.not_found"),
        (lambda b, o: b.context.objects.delete(receipt_name(o["backup_id"])), "storage.not_found"),
    ],
    ids=[
        "a fact", "the signature", "a signature that is none", "the key", "cut off", "empty",
        "nested", "no number", "too large", "an offset", "a hash", "a field", "its signer",
        "a NUL", "a surrogate", "a size", "another backup's", "a stranger's", "object cut off",
        "object altered", "another object", "no object", "no receipt",
    ],
)  # fmt: skip
def test_what_is_not_as_it_must_be_is_refused_and_the_others_go_on(
    backing: Backing, damage: Damage, code: str
) -> None:
    bad, good = made(backing), made(backing)
    damage(backing, bad)
    forget(backing)
    answer = adopt(backing, bad)
    assert (answer["outcome"], answer["code"]) == ("refused", code)
    assert answer["hint"]
    assert backing.events(ev.ADOPTED) == []
    with backing.context.pool.connection() as conn:
        assert not backing.context.history.exists(conn, bad["backup_id"])
    (entry,) = backing.audited("backup.adopt")
    assert (entry["status"], entry["status_code"]) == ("Failure", code)
    assert adopt(backing, good)["outcome"] == "adopted"


def test_a_signer_that_is_unknown_here_is_named_by_whoever_trusts_it(backing: Backing) -> None:
    backup, stranger = made(backing), SigningKey(b"\x01" * 32)
    in_receipt(signed_anew(stranger))(backing, backup)
    forget(backing)
    refused = adopt(backing, backup, "SHA256:somebody")
    assert refused["code"] == "archive.signer_untrusted"
    assert stranger.fingerprint in refused["message"]
    assert adopt(backing, backup, stranger.fingerprint)["outcome"] == "adopted"
    assert shown(backing, backup["backup_id"])["trusted_by"] == "caller"
    (entry,) = [e for e in backing.audited("backup.adopt") if e["status"] == "Success"]
    assert entry["unmapped"]["details"] == {
        "signer": stranger.fingerprint, "trusted_by": "caller",
    }  # fmt: skip


def test_it_takes_the_right_to_configure(backing: Backing) -> None:
    backup = made(backing)
    forget(backing)
    other = replace(backing.admin, permissions=backing.admin.permissions - {"configure"})
    with pytest.raises(AccessError):
        adopt_backup(backing.context, backup["backup_id"], AdoptBackup(), other)


def test_all_receipts_are_listed_page_by_page_also_those_that_are_bad(backing: Backing) -> None:
    backups = [made(backing) for _ in range(3)]
    in_receipt(lambda _: b"no receipt")(backing, backups[0])
    forget(backing)
    adopt(backing, backups[1])
    (backing.context.settings.storage.folder / "note.receipt.json").write_bytes(b"somebody's")
    found: list[Json] = []
    after = ""
    while True:
        page = list_receipts(backing.context, after, 2)
        assert len(page["receipts"]) <= 2
        found += page["receipts"]
        if page["next_after"] is None:
            break
        after = page["next_after"]
    assert [one["backup_id"] for one in found] == sorted(b["backup_id"] for b in backups)
    told = {one["backup_id"]: one for one in found}
    assert [told[b["backup_id"]]["known"] for b in backups] == [False, True, False]
    assert told[backups[0]["backup_id"]]["started_at"] is None
    assert told[backups[2]["backup_id"]]["started_at"] == backups[2]["started_at"]
