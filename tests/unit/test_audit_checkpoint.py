"""Signed checkpoints: what they say is signed, and a chain must lead through them."""

import base64
import hashlib
import json
from typing import Any

import pytest

from shared.audit import ChainCheck, Checkpoint, entry_hash, open_checkpoint, sign_checkpoint
from shared.audit.exported import LINE_MAX_BYTES, verify_lines
from shared.errors import CheckpointInvalid, MessageUnreadable
from shared.messages import SigningKey
from tests.unit.test_audit_chain import Entry, chain

KEY, OTHER = SigningKey(b"k" * 32), SigningKey(b"o" * 32)
ORIGIN = "secryn.audit/0d0f1f7a-7d2e-4b1c-9a55-3f1a4c1be0aa/backup_service"
KEPT = Checkpoint(ORIGIN, 6, "ab" * 32)


def with_checkpoint(size: int = 6, key: SigningKey = KEY, **of: Any) -> list[Entry]:
    """A chain of seven entries, the last of them a checkpoint of the six before it."""
    entries = chain()
    kept = Checkpoint(ORIGIN, size, str(of.get("head", entries[-1]["hash"])))
    entry: Entry = {
        "seq": 7, "prev_hash": entries[-1]["hash"], "service": "backup_service",
        "api": {"operation": "audit.checkpoint"},
        "unmapped": {"details": {"note": sign_checkpoint(kept, key)}},
    }  # fmt: skip
    return [*entries, entry | {"hash": entry_hash(entry)}]


def check(entries: list[Entry], keys: Any = (KEY.public,), known: Checkpoint | None = None) -> Any:
    checking = ChainCheck(keys, known)
    for entry in entries:
        checking.add(entry)
    return checking.report()


def test_a_note_is_what_the_c2sp_specification_says() -> None:
    note = sign_checkpoint(KEPT, KEY)
    text, _, line = note.partition("\n\n")
    assert text == f"{ORIGIN}\n6\n{base64.b64encode(bytes.fromhex(KEPT.head)).decode()}"
    mark, name, signature = line.removesuffix("\n").split(" ")
    raw = base64.b64decode(signature)
    assert (mark, name) == ("\u2014", ORIGIN)
    key_id = hashlib.sha256(ORIGIN.encode() + b"\n\x01" + KEY.public.raw).digest()[:4]
    assert raw[:4] == key_id
    assert KEY.public.verifies(raw[4:], (text + "\n").encode())


def test_a_note_is_read_back_with_its_key_among_others() -> None:
    note = sign_checkpoint(KEPT, KEY)
    assert open_checkpoint(note, [OTHER.public, KEY.public]) == KEPT
    assert open_checkpoint(note, None) == KEPT
    assert KEPT.service == "backup_service"


@pytest.mark.parametrize(
    "change",
    [
        lambda note: note.replace("\n6\n", "\n5\n"),
        lambda note: note.replace("backup_service", "restore_service"),
        lambda note: note.replace("\u2014 secryn", "\u2014 zecryn"),
        lambda note: note.replace("q6ur", "q6us"),
        lambda note: note[:-9] + "AAAAAAAA\n",
        lambda note: note.replace("\n6\n", "\n06\n"),
        lambda note: note + note,
        lambda note: note.rstrip("\n"),
        lambda note: "",
        lambda note: "x" * 5000,
    ],
)
def test_a_changed_note_is_refused(change: Any) -> None:
    note = sign_checkpoint(KEPT, KEY)
    with pytest.raises(CheckpointInvalid):
        open_checkpoint(change(note), [KEY.public])


def test_a_chain_is_signed_as_far_as_its_checkpoints_go() -> None:
    report = check(with_checkpoint())
    assert (report.intact, report.entries) == (True, 7)
    assert (report.checkpoints, report.signed_through) == (1, 6)


def test_a_checkpoint_of_another_key_size_or_head_is_a_bad_entry() -> None:
    assert check(with_checkpoint(key=OTHER)).bad_seq == 7
    assert check(with_checkpoint(key=OTHER), keys=None).intact
    for entries in (with_checkpoint(size=5), with_checkpoint(head="00" * 32)):
        for keys in ((KEY.public,), None):
            assert check(entries, keys).bad_seq == 7


def test_a_chain_leads_through_the_checkpoint_that_was_kept() -> None:
    entries = chain()
    assert check(entries, known=Checkpoint(ORIGIN, 6, entries[5]["hash"])).intact
    assert check(entries, known=Checkpoint(ORIGIN, 3, entries[2]["hash"])).intact
    assert check(entries, known=Checkpoint(ORIGIN, 3, entries[3]["hash"])).bad_seq == 3
    cut = check(entries[:4], known=Checkpoint(ORIGIN, 6, entries[5]["hash"]))
    assert (cut.bad_seq, cut.entries) == (5, 4)
    assert "entry 5 is missing" in cut.reason


def lines(entries: list[Entry]) -> list[bytes]:
    return [json.dumps(entry).encode() + b"\n" for entry in entries]


def test_both_chains_may_lie_between_each_other() -> None:
    mine = [entry | {"service": "a"} for entry in chain()]
    for one, before in zip(mine, [None, *mine], strict=False):
        one["prev_hash"] = before["hash"] if before else "0" * 64
        one["hash"] = entry_hash(one)
    other = lines(with_checkpoint())
    mixed = [line for pair in zip(lines(mine), other[:6], strict=True) for line in pair]
    found = verify_lines([*mixed, b"\n"])
    assert [report.intact for report, _ in found.values()] == [True, True]
    found = verify_lines(mixed[:4] + mixed[6:])
    assert [report.bad_seq for report, _ in found.values()] == [3, 3]


def test_a_service_whose_every_entry_is_gone_is_missed() -> None:
    found = verify_lines([], None, {"backup_service": KEPT})
    assert found["backup_service"][0].bad_seq == 1


@pytest.mark.parametrize("line", [b"{", b"[]", b"\xff", b"1" * (LINE_MAX_BYTES + 1)])
def test_a_line_that_is_no_entry_is_named(line: bytes) -> None:
    with pytest.raises(MessageUnreadable, match="line 3"):
        verify_lines([*lines(chain())[:2], line])
