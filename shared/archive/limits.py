"""The limits of FORMAT.md, enforced while reading: what is over one is never held in memory."""

from __future__ import annotations

from dataclasses import dataclass

MiB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """All in bytes unless said otherwise."""

    header_bytes: int = 64 * 1024
    header_stanzas: int = 32
    backup_json_bytes: int = 64 * 1024
    manifest_bytes: int = 64 * MiB
    schema_sql_bytes: int = 4 * MiB
    part_stored_bytes: int = 64 * MiB
    part_raw_bytes: int = 64 * MiB
    part_window_bytes: int = 8 * MiB
    members: int = 1_000_000
    total_bytes: int = 16 * 1024 * 1024 * MiB


DEFAULT_LIMITS = Limits()
