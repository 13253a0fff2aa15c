"""The C library keeps one arena, whatever number of threads allocated: memory does not grow by them."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Threads that allocate at once; then the library's own account of its arenas.
_WORK = """
import ctypes, os, tempfile, threading
{first}
together = threading.Barrier(8)
def work():
    together.wait()
    ctypes.CDLL(None).malloc(1000)
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
folder = tempfile.TemporaryDirectory()
name = os.path.join(folder.name, "info")
file = ctypes.c_void_p(libc.fopen(name.encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(open(name).read().count("<heap nr="))
"""


def arenas(first: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _WORK.format(first=first)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_many_threads_share_one_arena_where_the_allocator_is_bound() -> None:
    assert arenas("") > 1
    assert arenas("from shared.allocator import bound_allocator; bound_allocator()") == 1
