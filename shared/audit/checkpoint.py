"""Signed checkpoints of an audit chain: signed notes (C2SP signed-note, Ed25519).

The text of a note is that of a C2SP tlog-checkpoint: the chain's origin, the number of its entries,
and the base64 of its head. The head is the hash of the last entry, for this log is a chain and
no tree. Whoever can write the table, but does not hold the service's key, cannot make the chain
anew: its checkpoints would not be signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shared.errors import CheckpointInvalid
from shared.messages.keys import PublicKey, SigningKey

HASH_BYTES: Final = 32
_KEY_ID_BYTES: Final = 4
# The type of an Ed25519 signature in a signed note.
_ED25519: Final = b"\x01"
_MARK: Final = "\N{EM DASH} "
_NOTE: Final = re.compile(
    "(?P<text>(?P<origin>[^\\s+]+)\n(?P<size>0|[1-9][0-9]{0,18})\n(?P<head>[A-Za-z0-9+/]{43}=)\n)"
    f"\n{_MARK}(?P<name>[^\\s+]+) (?P<signature>[A-Za-z0-9+/]+=*)\n"
)


@dataclass(frozen=True)
class Checkpoint:
    """An audit chain at one moment: how many entries it has, and the hash of the last, in hex."""

    origin: str
    size: int
    head: str

    @property
    def service(self) -> str:
        """Return whose chain it is."""
        return self.origin.rpartition("/")[2]

    @property
    def text(self) -> str:
        """Return what is signed."""
        head = base64.b64encode(bytes.fromhex(self.head)).decode("ascii")
        return f"{self.origin}\n{self.size}\n{head}\n"


def chain_origin(instance_id: object, service: str) -> str:
    """Return the name of a service's chain: it is what its checkpoints are signed as."""
    return f"secryn.audit/{instance_id}/{service}"


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """Return the note."""
    signature = key.sign(checkpoint.text.encode("ascii"))
    line = base64.b64encode(_key_id(checkpoint.origin, key.public) + signature).decode("ascii")
    return f"{checkpoint.text}\n{_MARK}{checkpoint.origin} {line}\n"


def open_checkpoint(note: str, keys: Iterable[PublicKey] | None) -> Checkpoint:
    """Return what a note says, once one of ``keys`` has signed it; None believes it unread.

    Raises CheckpointInvalid.
    """
    found = _NOTE.fullmatch(note)
    if found is None:
        raise CheckpointInvalid("the note is no checkpoint of an audit chain")
    if keys is not None and not _signed(found, keys):
        raise CheckpointInvalid(f"the checkpoint of {found['origin']} is signed by no known key")
    head = base64.b64decode(found["head"]).hex()
    return Checkpoint(found["origin"], int(found["size"]), head)


def _signed(found: re.Match[str], keys: Iterable[PublicKey]) -> bool:
    try:
        line = base64.b64decode(found["signature"], validate=True)
    except binascii.Error:
        return False
    name, text = found["name"], found["text"].encode("utf-8")
    if name != found["origin"]:
        return False
    return any(
        line[:_KEY_ID_BYTES] == _key_id(name, key) and key.verifies(line[_KEY_ID_BYTES:], text)
        for key in keys
    )


def _key_id(name: str, key: PublicKey) -> bytes:
    named = name.encode("utf-8") + b"\n" + _ED25519 + key.raw
    return hashlib.sha256(named).digest()[:_KEY_ID_BYTES]
