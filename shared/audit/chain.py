"""The hash chain: a removed, changed or reordered entry is found by whoever holds the entries.

``hash`` is the SHA-256 of the entry's canonical JSON (sorted names, no spaces, ASCII) without
``hash`` itself; ``prev_hash`` is the hash of the entry before, 64 zeros for the first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64


@dataclass(frozen=True)
class ChainReport:
    """What a check of a chain found; ``bad_seq`` and ``reason`` name the first bad entry."""

    entries: int
    head: str
    bad_seq: int | None = None
    reason: str | None = None

    @property
    def intact(self) -> bool:
        """Tell whether every entry fits."""
        return self.reason is None


def entry_hash(entry: Mapping[str, Any]) -> str:
    """Return the hash of an entry, 64 hex digits."""
    content = {name: value for name, value in entry.items() if name != "hash"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def verify_chain(entries: Iterable[Mapping[str, Any]]) -> ChainReport:
    """Check one service's entries in their order, from the first one."""
    head, count = GENESIS, 0
    for entry in entries:
        expected = count + 1
        if entry.get("seq") != expected:
            return ChainReport(count, head, expected, f"entry {expected} is missing or moved")
        if entry.get("prev_hash") != head:
            return ChainReport(
                count, head, expected, f"entry {expected} does not follow the one before"
            )
        if entry.get("hash") != entry_hash(entry):
            return ChainReport(count, head, expected, f"entry {expected} was changed")
        head, count = str(entry["hash"]), expected
    return ChainReport(count, head)
