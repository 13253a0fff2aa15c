"""What every kind of key has in common, and reading keys from text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Protocol

from shared.archive.age.header import Stanza
from shared.errors import RecipientsMixed, UsageError

POST_QUANTUM = "postquantum"


class Recipient(Protocol):
    """Somebody to encrypt to."""

    @property
    def labels(self) -> frozenset[str]:
        """Return what all recipients of one file must have in common."""

    def wrap(self, file_key: bytes) -> Stanza:
        """Return the stanza that carries ``file_key``."""

    def encode(self) -> str:
        """Return the recipient as text."""


class Identity(Protocol):
    """Somebody who decrypts."""

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        """Return the file key, or None when no stanza is for this identity.

        Raises AgeHeaderInvalid for a malformed stanza of this kind.
        """

    def to_recipient(self) -> Recipient:
        """Return the public half."""

    def encode(self) -> str:
        """Return the identity as text: a secret."""


def recipient_fingerprint(recipient: str) -> str:
    """Return ``SHA256:`` and the unpadded base64url of the recipient text's SHA-256."""
    digest = hashlib.sha256(recipient.strip().encode("ascii")).digest()
    return "SHA256:" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def check_mixing(recipients: Sequence[Recipient]) -> None:
    """Refuse recipients that may not stand together: post-quantum ones beside others.

    One recipient that a quantum computer opens would open the file for all (C2SP age
    specification, "The hybrid recipient type"). Raises UsageError, RecipientsMixed.
    """
    if not recipients:
        raise UsageError("a file needs at least one recipient")
    if len({recipient.labels for recipient in recipients}) > 1:
        raise RecipientsMixed("post-quantum recipients cannot be mixed with others")
