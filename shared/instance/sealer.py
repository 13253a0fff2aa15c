"""Seal values under the instance's data keys, and make the keys that are not there yet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from shared.database import Connection
from shared.errors import KeyringError
from shared.instance.events import KeyringKeyAdded, KeyringKeyRetired
from shared.instance.keyring import Keyring, Kind, RootKey, new_data_key


class Sealer:
    """The data keys of one epoch, opened once; each kind of value is sealed under its own."""

    def __init__(self, root_key: RootKey) -> None:
        self._root_key = root_key
        self._rows: dict[UUID, dict[str, Any]] = {}
        self._keyring: Keyring | None = None

    def ready(self, kind: Kind) -> bool:
        """Tell whether there is an opened data key for ``kind``."""
        return self._keyring is not None and kind in self._keyring.purposes

    def prepare(self, conn: Connection, kind: Kind) -> KeyringKeyAdded | None:
        """Read the keyring; return the event of a new data key if there is none for ``kind``.

        The caller appends the event and then calls ``add``. Raises KeyringError.
        """
        query = "SELECT id, purpose, state, wrapped, check_value, created_at FROM instance.keyring"
        with conn.cursor(row_factory=dict_row) as cursor:
            # What was added a moment ago may not be stored yet.
            self._rows |= {row["id"]: row for row in cursor.execute(query)}
        self._open()
        return None if self.ready(kind) else new_data_key(self._root_key, kind)

    def add(self, added: KeyringKeyAdded) -> None:
        """Seal under this key from now on."""
        content = added.model_dump(include={"id", "purpose", "wrapped", "check_value"})
        self._rows[added.id] = content | {"state": "active", "created_at": datetime.now(UTC)}
        self._open()

    def rotate(self, kind: Kind) -> tuple[KeyringKeyAdded, KeyringKeyRetired]:
        """Return the events of a new data key and of the end of the present one.

        Raises KeyringError when there is no present one.
        """
        present = [
            row
            for row in self._rows.values()
            if row["purpose"] == kind and row["state"] == "active"
        ]
        if not present:
            raise KeyringError(f"the keyring has no active key for {kind}")
        newest = max(present, key=lambda row: (row["created_at"], row["id"]))
        return new_data_key(self._root_key, kind), KeyringKeyRetired(id=newest["id"])

    def drop(self) -> None:
        """Forget every key."""
        self._rows = {}
        self._keyring = None

    def seal(self, value: bytes, kind: Kind, owner: UUID | str, version: int) -> bytes:
        """Seal ``value``. Raises KeyringError when no data key is ready for ``kind``."""
        if self._keyring is None:
            raise KeyringError("the keyring is not opened")
        return self._keyring.seal(value, kind, kind, owner, version)

    def _open(self) -> None:
        self._keyring = Keyring.open(self._rows.values(), self._root_key)
