"""Read what must be refused, and hold the refusal to its code, its memory and its time."""

from __future__ import annotations

import io
import time
from pathlib import Path

from shared.archive.age import Identity
from shared.archive.age.header import Source
from shared.archive.limits import DEFAULT_LIMITS, Limits
from shared.archive.verify import verify_archive
from shared.errors import SecrynError
from tests.unit.archive.building import IDENTITY

MiB = 1 << 20
# A stored part, a decompressed one and their copies would not fit.
MEMORY_BYTES = 48 * MiB
TIME_S = 5.0


def code_of(
    data: bytes | Source, identity: Identity = IDENTITY, limits: Limits = DEFAULT_LIMITS
) -> str | None:
    """Verify an archive to its end; return the code that it was refused with, None if it was not."""
    source = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        verify_archive(source, [identity], limits)
    except SecrynError as error:
        return error.code
    return None


def assert_refused(
    data: bytes | Source,
    code: str,
    *,
    limits: Limits = DEFAULT_LIMITS,
    memory_bytes: int = MEMORY_BYTES,
) -> None:
    """Assert that an archive is refused with ``code``, in bounded memory and time."""
    before = _reset_peak()
    started = time.monotonic()
    assert code_of(data, limits=limits) == code
    assert time.monotonic() - started < TIME_S
    if before is not None:
        assert _memory("VmHWM") - before < memory_bytes


def _reset_peak() -> int | None:
    """Let the process's peak begin anew (proc(5), clear_refs); None where that is not allowed."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # pragma: no cover
        return None
    return _memory("VmRSS")


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
