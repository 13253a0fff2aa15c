"""The signed receipt beside an object: the facts of the backup, from storage alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shared.messages import SigningKey
from shared.storage import ObjectStore

DOMAIN = b"secryn receipt v1\0"


def encode_receipt(facts: Mapping[str, Any], signer: SigningKey) -> bytes:
    """Return a JSON document with ``facts`` and an Ed25519 signature over their canonical form."""
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    signature = signer.sign(DOMAIN + canonical.encode("ascii"))
    document = {
        "receipt": dict(facts),
        "signer": signer.fingerprint,
        "signer_public_key": signer.public.raw.hex(),
        "signature": signature.hex(),
    }
    return json.dumps(document, sort_keys=True, indent=2).encode("ascii") + b"\n"


def write_receipt(
    objects: ObjectStore, name: str, facts: Mapping[str, Any], signer: SigningKey
) -> None:
    """Store the receipt under ``name``, whole or not at all."""
    objects.delete(name)
    writer = objects.create(name)
    try:
        writer.write(encode_receipt(facts, signer))
        writer.commit()
    finally:
        writer.abort()
