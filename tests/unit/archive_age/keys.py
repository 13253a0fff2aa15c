"""Cheap keys and a few words that the tests of age share."""

import io

from shared.archive.age import DecryptReader, Identity, Passphrase, X25519Identity, seal

# One identity for all: making one is not what most tests are about.
IDENTITY = X25519Identity(bytes(range(32)))
RECIPIENT = IDENTITY.to_recipient()
# The least work that scrypt has; the default takes a second.
PASSPHRASE = Passphrase(b"correct horse battery", work_factor=1)


def sealed(plaintext: bytes) -> bytes:
    """Return ``plaintext`` as an age file for IDENTITY."""
    return seal(plaintext, [RECIPIENT])


def opened(data: bytes, *identities: Identity) -> bytes:
    """Return the whole content of an age file."""
    return DecryptReader(io.BytesIO(data), identities or [IDENTITY]).read()
