"""The hash chain: a removed, changed or reordered entry is found by whoever holds the entries.

``hash`` is the SHA-256 of the entry's canonical JSON (sorted names, no spaces, ASCII) without
``hash`` itself; ``prev_hash`` is the hash of the entry before, 64 zeros for the first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.audit.checkpoint import Checkpoint, open_checkpoint
from shared.errors import CheckpointInvalid
from shared.messages.keys import PublicKey

GENESIS: Final = "0" * 64
# The action of an entry that holds a signed checkpoint of all before it.
CHECKPOINT: Final = "audit.checkpoint"


@dataclass(frozen=True)
class ChainReport:
    """What a check of a chain found; ``bad_seq`` and ``reason`` name the first bad entry.

    ``checkpoints`` are those that fit, ``signed_through`` the last entry that one of them covers.
    """

    entries: int
    head: str
    bad_seq: int | None = None
    reason: str | None = None
    checkpoints: int = 0
    signed_through: int = 0

    @property
    def intact(self) -> bool:
        """Tell whether every entry fits."""
        return self.reason is None


def entry_hash(entry: Mapping[str, Any]) -> str:
    """Return the hash of an entry, 64 hex digits."""
    content = {name: value for name, value in entry.items() if name != "hash"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


class ChainCheck:
    """A check of one service's chain, entry by entry from the first one; it holds none of them.

    With ``keys`` its checkpoints must be signed by one of them. ``known`` is a checkpoint that was
    kept elsewhere: the chain must still lead through it.
    """

    def __init__(
        self, keys: Collection[PublicKey] | None = None, known: Checkpoint | None = None
    ) -> None:
        self._keys = keys
        self._known = known
        self._entries, self._head = 0, GENESIS
        self._checkpoints = self._signed_through = 0
        self._bad: str | None = None
        self.bad_entry: Mapping[str, Any] | None = None

    def add(self, entry: Mapping[str, Any]) -> bool:
        """Take the next entry; return False from the first bad one on."""
        if self._bad is None:
            self._bad = self._fault(entry)
            if self._bad is None:
                self._take(entry)
            else:
                self.bad_entry = entry
        return self._bad is None

    def report(self) -> ChainReport:
        """Return what was found by now."""
        reason = self._bad
        if reason is None and self._known is not None and self._known.size > self._entries:
            reason = f"entry {self._entries + 1} is missing: the known checkpoint covers it"
        bad_seq = None if reason is None else self._entries + 1
        return ChainReport(
            self._entries, self._head, bad_seq, reason, self._checkpoints, self._signed_through
        )

    def _fault(self, entry: Mapping[str, Any]) -> str | None:
        expected = self._entries + 1
        if entry.get("seq") != expected:
            return f"entry {expected} is missing or moved"
        if entry.get("prev_hash") != self._head:
            return f"entry {expected} does not follow the one before"
        if entry.get("hash") != entry_hash(entry):
            return f"entry {expected} was changed"
        known = self._known
        if known is not None and known.size == expected and known.head != entry["hash"]:
            return f"entry {expected} is not the one of the known checkpoint"
        return self._fault_of_checkpoint(entry, expected)

    def _fault_of_checkpoint(self, entry: Mapping[str, Any], expected: int) -> str | None:
        note = _note_of(entry)
        if note is None:
            return None
        try:
            checkpoint = open_checkpoint(note, self._keys)
        except CheckpointInvalid as error:
            return f"entry {expected}: {error.message}"
        if (checkpoint.size, checkpoint.head) != (self._entries, self._head):
            return f"entry {expected} is a checkpoint of another chain"
        return None

    def _take(self, entry: Mapping[str, Any]) -> None:
        if _note_of(entry) is not None:
            self._checkpoints += 1
            self._signed_through = self._entries
        self._entries, self._head = self._entries + 1, str(entry["hash"])


def verify_chain(entries: Iterable[Mapping[str, Any]]) -> ChainReport:
    """Check one service's entries in their order, from the first one."""
    check = ChainCheck()
    for entry in entries:
        if not check.add(entry):
            break
    return check.report()


def is_checkpoint(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry holds a checkpoint of those before it."""
    return _note_of(entry) is not None


def _note_of(entry: Mapping[str, Any]) -> str | None:
    """Return the checkpoint that an entry holds; what its content is worth is for others."""
    try:
        if entry["api"]["operation"] != CHECKPOINT:
            return None
        return str(entry["unmapped"]["details"]["note"])
    except (KeyError, TypeError):
        return None
