"""age: encrypt and decrypt by itself, in memory."""

from __future__ import annotations

import io
import os

from bench.figure import MB, Figure, best_of, measured
from bench.machine import Machine
from shared.archive.age import DecryptReader, EncryptWriter, HybridIdentity

BLOCK_BYTES = 1 << 20
BLOCKS = 128


def run(_: Machine) -> list[Figure]:
    """Measure plaintext bytes a second with the default kind of key."""
    identity, block = HybridIdentity.generate(), os.urandom(BLOCK_BYTES)
    sealed = io.BytesIO()

    def encrypt() -> float:
        sealed.seek(0)
        with measured() as watch:
            writer = EncryptWriter(sealed, [identity.to_recipient()])
            for _ in range(BLOCKS):
                writer.write(block)
            writer.close()
        return watch.rate(BLOCKS * BLOCK_BYTES / MB)

    def decrypt() -> float:
        sealed.seek(0)
        size = 0
        with measured() as watch:
            reader = DecryptReader(sealed, [identity])
            while found := reader.read(BLOCK_BYTES):
                size += len(found)
        if size != BLOCKS * BLOCK_BYTES:
            raise RuntimeError("another size came back than was encrypted")
        return watch.rate(size / MB)

    return [
        Figure("age encrypt", best_of(3, encrypt), "MB/s"),
        Figure("age decrypt", best_of(3, decrypt), "MB/s"),
    ]
