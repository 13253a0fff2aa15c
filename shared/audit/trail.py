"""Record audit entries in the same transaction as what they tell of."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.audit.chain import CHECKPOINT, GENESIS, entry_hash, is_checkpoint
from shared.audit.checkpoint import Checkpoint, chain_origin, sign_checkpoint
from shared.database import Connection
from shared.eventstore.store import EventMeta, EventStore, NewEvent
from shared.messages.keys import SigningKey
from shared.messages.topics import AUDIT

STREAM = "audit"
TYPE = "com.secryn.audit.recorded.v1"
# OCSF API Activity (class 6003): the field names of what follows are its.
CLASS_UID = 6003


_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(text: str) -> str:
    """Return ``text`` without what PostgreSQL does not store: NUL and lone surrogates."""
    return _NOT_STORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _plain(value: Any) -> Any:
    """Return ``value`` as jsonb gives it back: the hash is of what will be read."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(name)): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        # 1e22 and -0.0 would come back as 10000000000000000000000 and 0.0.
        return int(value)
    return value


@dataclass(frozen=True)
class AuditEntry:
    """Who did what to what, from where, with which outcome. It never holds a secret."""

    action: str
    outcome: Literal["success", "failure"]
    actor: str
    resource_type: str
    resource_id: str = ""
    source: str = ""
    code: str = ""
    message: str = ""
    log_offset: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class AuditTrail:
    """The chained audit trail of one service."""

    def __init__(self, store: EventStore, service: str) -> None:
        self._store = store
        self.service = service

    def record(self, conn: Connection, entry: AuditEntry, correlation_id: str) -> None:
        """Append ``entry`` to the chain; in the caller's transaction."""
        # The append lock is taken first: the last entry that is read is the last there is.
        self._store.lock_appends(conn)
        last = self._store.last(conn, STREAM)
        seq = 1 if last is None else last.version + 1
        content: dict[str, Any] = {
            "seq": seq,
            "prev_hash": GENESIS if last is None else last.data["hash"],
            "class_uid": CLASS_UID,
            "time": self._store.clock.now().isoformat(timespec="microseconds"),
            "service": self.service,
            "actor": {"user": {"name": entry.actor}},
            "api": {"operation": entry.action},
            "resources": [{"type": entry.resource_type, "uid": entry.resource_id}],
            "src_endpoint": {"name": entry.source},
            "status": "Success" if entry.outcome == "success" else "Failure",
            "status_code": entry.code,
            "status_detail": entry.message,
            "metadata": {"correlation_uid": correlation_id},
            "unmapped": {"log_offset": entry.log_offset, "details": dict(entry.details)},
        }
        content = _plain(content)
        content["hash"] = entry_hash(content)
        meta = EventMeta(storable(entry.actor), storable(correlation_id))
        self._store.append(conn, STREAM, seq - 1, [NewEvent(TYPE, content, AUDIT)], meta)

    def checkpoint(self, conn: Connection, key: SigningKey, instance_id: object) -> bool:
        """Append a signed checkpoint of all that is there; in the caller's transaction.

        Where the last entry is one, or there is none, nothing is appended: returns False.
        """
        self._store.lock_appends(conn)
        last = self._store.last(conn, STREAM)
        if last is None or is_checkpoint(last.data):
            return False
        origin = chain_origin(instance_id, self.service)
        note = sign_checkpoint(Checkpoint(origin, last.version, last.data["hash"]), key)
        entry = AuditEntry(CHECKPOINT, "success", self.service, "audit", details={"note": note})
        self.record(conn, entry, origin)
        return True
