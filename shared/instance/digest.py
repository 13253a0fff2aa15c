"""The canonical digest of an instance's state (FORMAT.md, "Digests").

It does not depend on the order in which rows are read, and parts of a table may be summed apart
and merged, so that a backup computes it on the way and in parallel. A row stands in it as its
binary COPY tuple (PostgreSQL, "COPY", Binary Format): the same on every machine and version.
A data key stands in it by its check value: its wrapping differs from place to place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from shared.copyout import copy_rows
from shared.instance.migrate import schema_version
from shared.instance.tables import TableInfo, list_tables

_MODULUS_BYTES = 64
_MASK = (1 << (8 * _MODULUS_BYTES)) - 1
EVERY_ROW = sql.SQL("")
# Columns that differ between places which hold the same state.
LEFT_OUT: Mapping[str, frozenset[str]] = {"keyring": frozenset({"wrapped", "root_key_id"})}


class TableDigest:
    """The digest of a table's rows, in whatever order they come."""

    __slots__ = ("_sum", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    @classmethod
    def of(cls, row_sum: int, rows: int) -> TableDigest:
        """Return the digest of ``rows`` rows whose SHA-512 values sum up to ``row_sum``."""
        digest = cls()
        digest._sum, digest.rows = row_sum, rows
        return digest

    def add(self, tuple_bytes: bytes | memoryview) -> None:
        """Take in one row: its COPY tuple, from the field count on."""
        self._sum += int.from_bytes(hashlib.sha512(tuple_bytes).digest(), "big")
        self.rows += 1

    def add_all(self, tuples: Iterable[bytes | memoryview]) -> None:
        """Take in many rows; what is done for each is what most of a proof's time goes to."""
        # A copy of a fresh state is made faster than a fresh state.
        fresh, from_bytes, row_sum, rows = hashlib.sha512().copy, int.from_bytes, 0, 0
        for row in tuples:
            state = fresh()
            state.update(row)
            row_sum += from_bytes(state.digest(), "big")
            rows += 1
        self._sum += row_sum
        self.rows += rows

    def merge(self, other: TableDigest) -> None:
        """Take in another part of the same table."""
        self._sum += other._sum
        self.rows += other.rows

    @property
    def row_sum(self) -> int:
        """Return the sum of the rows' SHA-512 values, as ``of`` takes it."""
        return self._sum

    def hexdigest(self, name: str) -> str:
        """Return the digest of the table ``name`` with the rows so far, 64 hex digits."""
        total = (self._sum & _MASK).to_bytes(_MODULUS_BYTES, "big")
        head = b"secryn table v1\0" + name.encode() + b"\0" + str(self.rows).encode() + b"\0"
        return hashlib.sha256(head + total).hexdigest()


def hash_in_order(tuples: Iterable[bytes | memoryview]) -> tuple[int, str]:
    """Return how many tuples there are, and the SHA-256 of all of them, one behind the other."""
    digest, rows = hashlib.sha256(), 0
    take = digest.update
    for row in tuples:
        take(row)
        rows += 1
    return rows, digest.hexdigest()


@dataclass(frozen=True)
class TableState:
    """How many rows a table has, and their digest."""

    rows: int
    digest: str


@dataclass(frozen=True)
class InstanceDigest:
    """The digest of a whole state, and of each of its tables."""

    schema_version: int
    tables: Mapping[str, TableState]

    @property
    def digest(self) -> str:
        """Return the digest over all tables, 64 hex digits."""
        return instance_digest(
            self.schema_version, {name: table.digest for name, table in self.tables.items()}
        )


def instance_digest(version: int, tables: Mapping[str, str]) -> str:
    """Return the digest over ``tables`` (name to hex digest) at schema ``version``."""
    document = {"schema_version": version, "tables": dict(tables)}
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def digest_schema(conn: psycopg.Connection[Any], schema: str = "instance") -> InstanceDigest:
    """Compute the digest of ``schema`` as the connection's transaction sees it; flat memory."""
    tables: dict[str, TableState] = {}
    for table in list_tables(conn, schema):
        digest = digest_table(conn, table)
        tables[table.name] = TableState(digest.rows, digest.hexdigest(table.name))
    return InstanceDigest(schema_version(conn, schema), tables)


def digest_table(conn: psycopg.Connection[Any], table: TableInfo) -> TableDigest:
    """Compute the digest of one table."""
    digest = TableDigest()
    digest.add_all(copy_rows(conn, digest_query(table)))
    return digest


def digest_query(table: TableInfo, where: sql.Composable = EVERY_ROW) -> sql.Composed:
    """Return the COPY whose tuples are the rows of ``table`` as the digest takes them."""
    left_out = LEFT_OUT.get(table.name, frozenset())
    columns = [column.name for column in table.columns if column.name not in left_out]
    return sql.SQL("COPY (SELECT {} FROM {} {}) TO STDOUT (FORMAT binary)").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), table.identifier, where
    )
