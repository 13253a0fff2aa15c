"""Give large blocks of memory back to the system as soon as they are free."""

from __future__ import annotations

import ctypes

# glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
LARGE_BYTES = 1 << 20


def return_large_blocks() -> None:
    """Have the C library map every large block by itself, where it can be told so (glibc).

    Left alone, it raises the limit to the size of the first part that is freed, and keeps later
    ones in an arena for each thread there ever was: memory that grows with the work done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
