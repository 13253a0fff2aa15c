"""Have the C library give memory back: what a piece of work took is not kept for the next."""

from __future__ import annotations

import ctypes

# glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
LARGE_BYTES = 1 << 20


def bound_allocator() -> None:
    """Map large blocks by themselves and keep one arena, where that can be told (glibc).

    To be called before threads are started. Left alone, the library raises the size of a large
    block to that of the first part that is freed, and keeps an arena for each of many threads,
    with what the largest work in it took: memory that grows with the work done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_M_ARENA_MAX, 1)
