"""Signed messages: who issued a command, who announced a restore.

The signature is Ed25519 over ``secryn message v1\\0`` and then, for every attribute but
``signature`` in the order of their names and last for the data: the name, the value, each after
its length as 4 bytes, big-endian. Nothing of a message can be changed, moved or left out.
"""

from __future__ import annotations

import struct
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import SignatureInvalid, UnknownSetting
from shared.messages.cloudevents import CloudEvent
from shared.messages.keys import PublicKey, SigningKey

ISSUER = "issuer"
SIGNATURE = "signature"
_DOMAIN = b"secryn message v1\0"


@dataclass(frozen=True)
class Issuer:
    """Somebody who may sign: with which key, what for, and which own recipients it may name."""

    id: str
    public_key: PublicKey
    permissions: frozenset[str] = frozenset()
    recipients: frozenset[str] = frozenset()


class _IssuerEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    public_key: str
    permissions: list[str] = []
    recipients: list[str] = []


@dataclass(frozen=True)
class IssuerRegistry:
    """The issuers of a place, by id."""

    issuers: Mapping[str, Issuer] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> IssuerRegistry:
        """Read a TOML file with a table for each issuer. Raises UnknownSetting."""
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8"))
            entries = {name: _IssuerEntry.model_validate(entry) for name, entry in raw.items()}
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UnknownSetting(f"the issuers file {path} cannot be read: {error}") from error
        except ValidationError:
            raise UnknownSetting(f"the issuers file {path} has a malformed entry") from None
        return cls(
            {
                name: Issuer(
                    name,
                    PublicKey.from_hex(entry.public_key),
                    frozenset(entry.permissions),
                    frozenset(entry.recipients),
                )
                for name, entry in entries.items()
            }
        )


def sign(event: CloudEvent, key: SigningKey, issuer_id: str) -> CloudEvent:
    """Return ``event`` signed by ``issuer_id``."""
    named = event.with_extensions(**{ISSUER: issuer_id})
    return named.with_extensions(**{SIGNATURE: key.sign(_message(named)).hex()})


def verify(event: CloudEvent, registry: IssuerRegistry) -> Issuer:
    """Return who signed ``event``.

    Raises SignatureInvalid for an unsigned, unknown or forged one: the same for all three.
    """
    issuer = registry.issuers.get(event.extensions.get(ISSUER, ""))
    try:
        signature = bytes.fromhex(event.extensions.get(SIGNATURE, ""))
    except ValueError:
        signature = b""
    if issuer is None or not issuer.public_key.verifies(signature, _message(event)):
        raise SignatureInvalid("the message is not signed by a registered issuer")
    return issuer


def _message(event: CloudEvent) -> bytes:
    attributes = event.attributes()
    attributes.pop(SIGNATURE, None)
    fields = [item for name in sorted(attributes) for item in (name, attributes[name])]
    parts = [field.encode("utf-8") for field in fields] + [event.data]
    return _DOMAIN + b"".join(struct.pack(">I", len(part)) + part for part in parts)
