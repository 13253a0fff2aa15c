"""Open secrets as a platform service does: one consistent look at the store, keys in memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.database import Connection, Pool, postgres_faults
from shared.errors import KeyringError, SecretNotFound
from shared.instance.keyring import Keyring, RootKey, read_keyring
from shared.instance.position import read_position

_PATH_PARTS: Final = 3
_FIND: Final = """
SELECT s.id, s.kind, s.labels, v.version, v.sealed, v.created_at, v.created_by
FROM instance.projects p
JOIN instance.vaults w ON w.project_id = p.id AND w.deleted_at IS NULL
JOIN instance.secrets s ON s.vault_id = w.id AND s.deleted_at IS NULL
JOIN instance.secret_versions v ON v.secret_id = s.id
 AND v.version = coalesce(%(version)s::int, s.current_version)
WHERE p.deleted_at IS NULL
  AND p.name = %(project)s AND w.name = %(vault)s AND s.name = %(name)s
"""


@dataclass(frozen=True)
class OpenedSecret:
    """A secret's version with its value in the clear; the value is in no repr."""

    id: UUID
    path: str
    version: int
    kind: str
    labels: dict[str, str]
    created_at: datetime
    created_by: str
    epoch: int
    value: bytes = field(repr=False)


class SecretOpener:
    """Opens secrets of the store; the data keys it opened are dropped when the epoch changes."""

    def __init__(self, pool: Pool, root_key: RootKey) -> None:
        self._pool = pool
        self._root_key = root_key
        self._lock = threading.Lock()
        self._keys: tuple[int, Keyring] | None = None

    def open(self, path: str, version: int | None = None) -> OpenedSecret:
        """Open ``PROJECT/VAULT/SECRET`` at ``version``, or at its present one.

        A secret's own name may hold slashes. Raises SecretNotFound, KeyringError and
        PostgresUnavailable.
        """
        parts = path.split("/", _PATH_PARTS - 1)
        if len(parts) < _PATH_PARTS:
            raise SecretNotFound(f"{path!r} is not PROJECT/VAULT/SECRET")
        project, vault, name = parts
        wanted = {"project": project, "vault": vault, "name": name, "version": version}
        with (
            postgres_faults("opening a secret"),
            self._pool.connection() as conn,
            conn.transaction(),
        ):
            # Value and keys out of one snapshot: a restore between them would mix two states.
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            return self._open(conn, path, wanted)

    def _open(self, conn: Connection, path: str, wanted: dict[str, Any]) -> OpenedSecret:
        epoch = read_position(conn).epoch
        row = conn.execute(_FIND, wanted).fetchone()
        if row is None:
            at = f" at version {wanted['version']}" if wanted["version"] is not None else ""
            raise SecretNotFound(f"there is no secret {path!r}{at}")
        secret, kind, labels, version, sealed, created_at, created_by = row
        value = self._unseal(conn, epoch, secret, version, sealed)
        return OpenedSecret(
            secret, path, version, kind, labels, created_at, created_by, epoch, value
        )

    def _unseal(
        self, conn: Connection, epoch: int, secret: UUID, version: int, sealed: bytes
    ) -> bytes:
        with self._lock:
            held = self._keys
        if held is not None and held[0] == epoch:
            try:
                return held[1].unseal(sealed, "secret", secret, version)
            except KeyringError:
                # Another writer may have added a data key since: look once more.
                held = None
        keyring = read_keyring(conn, self._root_key)
        with self._lock:
            self._keys = (epoch, keyring)
        return keyring.unseal(sealed, "secret", secret, version)
