"""The limits of FORMAT.md, enforced while reading: what is over one is never held in memory."""

from __future__ import annotations

from dataclasses import dataclass

MiB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """All in bytes unless said otherwise.

    A manifest of 32 MiB names some 240,000 members: with parts of 8 MiB, an instance of 1.5 TiB.
    """

    header_bytes: int = 64 * 1024
    header_stanzas: int = 32
    backup_json_bytes: int = 64 * 1024
    manifest_bytes: int = 32 * MiB
    # JSON values of the manifest: four a member, and these for all the rest.
    manifest_values: int = 16_384
    schema_sql_bytes: int = 4 * MiB
    part_stored_bytes: int = 64 * MiB
    part_raw_bytes: int = 64 * MiB
    part_window_bytes: int = 8 * MiB
    # Parts together may be so many times their stored size, and these bytes more: rows are
    # ciphertext and ids, and what compresses better than that is a bomb.
    expansion: int = 200
    expansion_spare_bytes: int = 256 * MiB
    members: int = 200_000
    total_bytes: int = 16 * 1024 * 1024 * MiB


DEFAULT_LIMITS = Limits()
