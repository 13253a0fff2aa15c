"""age v1 (C2SP age specification), streaming, with X25519 and post-quantum hybrid keys."""

from __future__ import annotations

from shared.archive.age import bech32, hybrid, x25519
from shared.archive.age.file import DecryptReader, EncryptWriter, open_sealed, seal
from shared.archive.age.hybrid import HybridIdentity, HybridRecipient
from shared.archive.age.keytypes import (
    Identity,
    Recipient,
    check_mixing,
    recipient_fingerprint,
)
from shared.archive.age.scrypt import Passphrase
from shared.archive.age.x25519 import X25519Identity, X25519Recipient
from shared.errors import KeyMalformed, RecipientInvalid

__all__ = [
    "DecryptReader",
    "EncryptWriter",
    "HybridIdentity",
    "HybridRecipient",
    "Identity",
    "Passphrase",
    "Recipient",
    "X25519Identity",
    "X25519Recipient",
    "check_mixing",
    "open_sealed",
    "parse_identity",
    "parse_recipient",
    "recipient_fingerprint",
    "seal",
]


def parse_identity(text: str) -> Identity:
    """Read one identity. Raises KeyMalformed; the message never holds the text."""
    try:
        prefix, secret = bech32.decode(text.strip())
    except ValueError:
        raise KeyMalformed("the key is not an age identity, or it is damaged") from None
    if text.strip() != text.strip().upper():
        raise KeyMalformed("an age identity is written in capitals")
    if prefix == x25519.IDENTITY_PREFIX and len(secret) == x25519.KEY_BYTES:
        return X25519Identity(secret)
    if prefix == hybrid.IDENTITY_PREFIX and len(secret) == hybrid.SEED_BYTES:
        return HybridIdentity(secret)
    raise KeyMalformed("the key is of a kind that is not known here")


def parse_recipient(text: str) -> Recipient:
    """Read one recipient. Raises RecipientInvalid; the message names it, but never an identity."""
    text = text.strip()
    # Somebody may give an identity by mistake: only what begins like a recipient is shown.
    if text.upper().startswith("AGE-SECRET-KEY-"):
        raise RecipientInvalid(
            "that is an identity, the secret half of a recipient",
            hint="Show it to nobody. Give the recipient: `age-keygen -y KEYFILE` prints it.",
        )
    named = f"the recipient {text[:24]!r}..." if text.startswith("age1") else "the recipient"
    try:
        prefix, public = bech32.decode(text)
    except ValueError as error:
        raise RecipientInvalid(f"{named} is damaged: {error}") from None
    if text == text.lower():
        if prefix == x25519.RECIPIENT_PREFIX and len(public) == x25519.KEY_BYTES:
            return X25519Recipient(public)
        if prefix == hybrid.RECIPIENT_PREFIX and len(public) == hybrid.PUBLIC_BYTES:
            return HybridRecipient(public)
    raise RecipientInvalid(f"{named} is of a kind that is not known here")
