"""The signed receipt beside an object: the facts of the backup, from storage alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NoReturn
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, ValidationError

from shared.errors import ReceiptInvalid, SignerUntrusted, UnknownSetting
from shared.messages import SigningKey
from shared.messages.keys import PublicKey
from shared.storage import ObjectStore

DOMAIN: Final = b"secryn receipt v1\0"
MAX_RECEIPT_BYTES: Final = 1024 * 1024

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, strict=True)]


class _Facts(BaseModel):
    """What a history needs of a receipt; a newer release may say more."""

    model_config = ConfigDict(extra="allow")

    backup_id: UUID
    instance_id: UUID
    environment: str
    epoch: Count
    cluster_id: str
    topic_id: str
    offset: Count
    schema_version: Count
    digest: Sha256
    tables: dict[str, dict[str, Any]]
    size_bytes: Count
    # Of COPY data, decompressed: what a restore loads. Older receipts do not say.
    copy_bytes: Count | None = None
    sha256: Sha256
    key_fingerprint: str | None
    recipient_fingerprints: list[str]
    signer: str
    requested_by: str
    reason: str
    started_at: AwareDatetime
    proven_at: AwareDatetime
    behind: StrictBool


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    receipt: dict[str, Any]
    signer: str
    signer_public_key: str
    signature: str


@dataclass(frozen=True)
class Receipt:
    """A receipt whose signature holds, of a signer that is trusted, and by whom."""

    facts: dict[str, Any]
    trusted_by: Literal["signer", "caller"]


def encode_receipt(facts: Mapping[str, Any], signer: SigningKey) -> bytes:
    """Return a JSON document with ``facts`` and an Ed25519 signature over their canonical form."""
    document = {
        "receipt": dict(facts),
        "signer": signer.fingerprint,
        "signer_public_key": signer.public.raw.hex(),
        "signature": signer.sign(_signed(facts)).hex(),
    }
    return json.dumps(document, sort_keys=True, indent=2).encode("ascii") + b"\n"


def _signed(facts: Mapping[str, Any]) -> bytes:
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return DOMAIN + canonical.encode("ascii")


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


def read_receipt(
    objects: ObjectStore,
    name: str,
    backup_id: str,
    signers: Collection[str],
    trust_signer: str | None,
) -> Receipt:
    """Read the receipt of ``backup_id`` and judge it; nothing of a bad one is used.

    ``signers`` are the fingerprints that this place trusts, ``trust_signer`` one that the caller
    does. Raises ObjectNotFound, ReceiptInvalid, SignerUntrusted, UnavailableError.
    """
    document = _document(_content(objects, name))
    try:
        key = PublicKey.from_hex(document.signer_public_key)
        signature = bytes.fromhex(document.signature)
    except (UnknownSetting, ValueError):
        raise ReceiptInvalid(f"the receipt of {backup_id} has no key or no signature") from None
    if key.fingerprint != document.signer or not key.verifies(signature, _signed(document.receipt)):
        raise ReceiptInvalid(f"the signature of the receipt of {backup_id} does not hold")
    trusted_by = _trust(document.signer, signers, trust_signer)
    try:
        facts = _Facts.model_validate(document.receipt)
    except ValidationError as error:
        fields = ", ".join(sorted({str(fault["loc"][0]) for fault in error.errors()}))
        raise ReceiptInvalid(f"the receipt of {backup_id} is malformed: {fields}") from None
    if (str(facts.backup_id), facts.signer) != (backup_id, document.signer):
        raise ReceiptInvalid(
            f"the receipt of {backup_id} is of the backup {facts.backup_id} by {facts.signer}"
        )
    return Receipt(document.receipt, trusted_by)


def _trust(
    signer: str, signers: Collection[str], trust_signer: str | None
) -> Literal["signer", "caller"]:
    if signer in signers:
        return "signer"
    if signer == trust_signer:
        return "caller"
    raise SignerUntrusted(
        f"the receipt is signed by {signer}, which is not known here",
        hint="Name the signer with --trust-signer FINGERPRINT if you know it.",
    )


def told_time(objects: ObjectStore, name: str) -> str | None:
    """Return when a backup was begun, as its receipt says: unproven, to sort by."""
    try:
        told = _document(_content(objects, name)).receipt.get("started_at")
        return datetime.fromisoformat(str(told)).astimezone(UTC).isoformat()
    except (ReceiptInvalid, ValueError, OverflowError):
        return None


def _content(objects: ObjectStore, name: str) -> bytes:
    with objects.open(name) as source:
        content = source.read(MAX_RECEIPT_BYTES + 1)
    if len(content) > MAX_RECEIPT_BYTES:
        raise ReceiptInvalid(f"{name} has more than {MAX_RECEIPT_BYTES} bytes")
    return content


def _document(content: bytes) -> _Document:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    try:
        return _Document.model_validate(json.loads(content, parse_constant=refuse))
    except (ValueError, RecursionError):
        raise ReceiptInvalid("what lies there is not a receipt") from None
