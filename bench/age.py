"""age: encrypt and decrypt by itself, in memory."""

from __future__ import annotations

import io
import os

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from bench.figure import MB, Figure, best_of, measured
from bench.machine import Machine
from shared.archive.age import DecryptReader, EncryptWriter, HybridIdentity
from shared.archive.age.stream import CHUNK_BYTES

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
        Figure("ChaCha20-Poly1305 alone, 64 KiB", best_of(3, _cipher), "MB/s"),
        Figure("age encrypt", best_of(3, encrypt), "MB/s"),
        Figure("age decrypt", best_of(3, decrypt), "MB/s"),
    ]


def _cipher() -> float:
    """Measure the cipher alone: what this machine has to give at this moment."""
    cipher, chunk = ChaCha20Poly1305(bytes(32)), os.urandom(CHUNK_BYTES)
    with measured() as watch:
        for number in range(BLOCKS * BLOCK_BYTES // CHUNK_BYTES):
            cipher.encrypt(number.to_bytes(12, "big"), chunk, None)
    return watch.rate(BLOCKS * BLOCK_BYTES / MB)
