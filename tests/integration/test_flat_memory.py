"""The memory of both services does not grow with the instance."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bench.watched import resident_peak_kb
from deploy.embedded.folder import open_state
from tests.plugins.live import Live

# Both fill every buffer between the store and the storage; the second is six times the first, and
# so large that it is compared in processes of their own.
SMALL_ROWS = 30_000
LARGE_ROWS = 180_000
# Small parts, so that a small instance fills every buffer.
PART_BYTES = 1 << 20
# What a service may differ by: the allocator's doing, and not a fifth of the 45 MB that came.
SPARE_KB = 8_000

_BEGIN = """
WITH project AS (
    INSERT INTO instance.projects VALUES (gen_random_uuid(), 'grown', '', now(), 'test') RETURNING id
), vault AS (
    INSERT INTO instance.vaults
    SELECT gen_random_uuid(), id, 'grown', false, now(), 'test' FROM project RETURNING id
)
INSERT INTO instance.secrets
SELECT gen_random_uuid(), id, 'grown', 'text', '{}', 1, now(), 'test' FROM vault
"""
_GROW = """
INSERT INTO instance.secret_versions
SELECT secret.id, number, sealed, length(sealed), now(), 'test'
FROM instance.secrets secret,
     generate_series((SELECT count(*) FROM instance.secret_versions) + 1, %s) number,
     -- Like ciphertext: nothing that a compressor would make small.
     LATERAL (SELECT string_agg(sha512((number + 0.1 * block)::text::bytea), '') AS sealed
              FROM generate_series(1, 4) block) content
"""


@dataclass(frozen=True)
class Peaks:
    """The most memory that each service ever had resident, in kB."""

    backup: int
    restore: int


def peaks_at(live: Live, rows: int, compared_by: str) -> Peaks:
    """Grow the instance to ``rows``, back it up and restore it; return the peaks so far."""
    with live.admin() as conn:
        # Straight into the store: on the log, so many events would take minutes.
        conn.execute(_GROW, (rows,))
    backup, key = live.backup()
    restore = live.restore(backup, key)
    assert restore["state"] == "restored", restore
    assert restore["proof"]["compared_by"] == compared_by
    assert backup["tables"]["secret_versions"]["rows"] == rows
    pids = live.stack.pids()
    return Peaks(resident_peak_kb(pids["backup"]), resident_peak_kb(pids["restore"]))


@pytest.fixture
def small_parts(empty_live: Live) -> None:
    """Let the backup service begin anew with small parts."""
    config = open_state(empty_live.stack.state).config("backup")
    config.write_text(f"{config.read_text()}\n[backup]\npart_bytes = {PART_BYTES}\n")
    empty_live.stack.kill("backup")
    empty_live.stack.wait_healthy()


def test_six_times_the_instance_takes_no_more_memory(empty_live: Live, small_parts: None) -> None:
    with empty_live.admin() as conn:
        conn.execute(_BEGIN)
    small = peaks_at(empty_live, SMALL_ROWS, "digest")
    large = peaks_at(empty_live, LARGE_ROWS, "order")
    assert large.backup - small.backup < SPARE_KB, (small, large)
    assert large.restore - small.restore < SPARE_KB, (small, large)
