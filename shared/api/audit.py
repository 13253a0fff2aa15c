"""The documents of an audit trail."""

from __future__ import annotations

from typing_extensions import TypedDict

from shared.api.common import Document, Sha256


class AuditPage(TypedDict):
    """A page of one service's trail, the newest entry first; ``total`` counts all there are.

    An entry has the field names of OCSF API Activity (6003), and ``seq``, ``prev_hash``, ``hash``.
    """

    service: str
    entries: list[Document]
    next_cursor: str | None
    total: int


class AuditReport(TypedDict):
    """Whether a chain holds; ``bad_seq``, ``reason`` and ``bad_entry`` tell of the first bad entry.

    ``signed_through`` is the last entry that a signed checkpoint covers; ``checkpoint`` a new one
    of the whole chain (a C2SP signed note), to be kept elsewhere.
    """

    service: str
    intact: bool
    entries: int
    head: Sha256
    bad_seq: int | None
    bad_entry: Document | None
    reason: str | None
    checkpoints: int
    signed_through: int
    checkpoint: str | None
