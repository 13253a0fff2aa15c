"""``schema.sql``: tables for a person who restores by hand; no restore of ours ever runs it."""

from __future__ import annotations

from collections.abc import Mapping

from shared.archive.manifest import TableEntry


def schema_sql(tables: Mapping[str, TableEntry]) -> str:
    """Return SQL that makes the tables of an archive, in a schema ``secryn``, and names the loads."""
    lines = [
        "-- Tables of a Secryn backup, for a restore by hand into an empty database.",
        "-- Decompress the parts (zstd -d) and load each with the \\copy that is named here.",
        "CREATE SCHEMA secryn;",
        "SET search_path = secryn;",
    ]
    for name, entry in tables.items():
        columns = ",\n".join(f'    "{column.name}" {column.type}' for column in entry.columns)
        lines += ["", f'CREATE TABLE "{name}" (', columns, ");"]
        lines += [
            f"-- \\copy \"{name}\" FROM 'tables/{name}/{number:06d}.copy' (FORMAT binary)"
            for number in range(min(entry.parts, 3))
        ]
        if entry.parts > 3:
            lines.append(f"-- ... up to 'tables/{name}/{entry.parts - 1:06d}.copy'")
    return "\n".join([*lines, ""])
