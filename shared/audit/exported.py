"""Verify entries that lie elsewhere: an export, or the content of the audit topic, as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from shared.audit.chain import ChainCheck, ChainReport
from shared.audit.checkpoint import Checkpoint
from shared.errors import MessageUnreadable
from shared.messages.keys import PublicKey

# One entry holds no more than an event may.
LINE_MAX_BYTES: Final = 4 * 1024 * 1024


def verify_lines(
    lines: Iterable[bytes],
    keys: Collection[PublicKey] | None = None,
    known: Mapping[str, Checkpoint] | None = None,
) -> dict[str, tuple[ChainReport, Mapping[str, Any] | None]]:
    """Return what was found by service, and the first bad entry; one entry is held at a time.

    ``known`` are checkpoints that were kept, by service.

    The chains of both services may lie between each other, as they do on the topic. Raises
    MessageUnreadable, naming the line.
    """
    checks = {service: ChainCheck(keys, kept) for service, kept in (known or {}).items()}
    for entry in _entries(lines):
        service = str(entry.get("service", ""))
        checks.setdefault(service, ChainCheck(keys)).add(entry)
    return {service: (check.report(), check.bad_entry) for service, check in checks.items()}


def _entries(lines: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line) if len(line) <= LINE_MAX_BYTES else None
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            raise MessageUnreadable(
                f"line {number} is no entry of an audit trail",
                hint="Give an export, or the topic's content, one entry a line.",
            )
        yield entry
