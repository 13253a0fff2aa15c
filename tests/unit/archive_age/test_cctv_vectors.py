"""Every vector of C2SP/CCTV for age, each with its stated outcome.

The vectors (npm `cctv-age` 0.2.0, licensed 0BSD, CC0-1.0 or Unlicense) lie in tests/vectors.
"""

import base64
import gzip
import hashlib
import io
import json
import zlib
from pathlib import Path

import pytest

from shared.archive.age import DecryptReader, Passphrase, parse_identity
from shared.archive.age.armor import ArmorReader
from shared.errors import (
    AgeHeaderInvalid,
    ArchiveDamaged,
    ArchiveTruncated,
    NotAnAgeFile,
    SecrynError,
    WrongKeyOrHeader,
)

VECTORS = json.loads(
    gzip.decompress((Path(__file__).parents[2] / "vectors" / "cctv-age.json.gz").read_bytes())
)
HEADER_FAULTS = (NotAnAgeFile, AgeHeaderInvalid, ArchiveTruncated)
EXPECTED = {
    "no match": (WrongKeyOrHeader,),
    "HMAC failure": (WrongKeyOrHeader,),
    "header failure": HEADER_FAULTS,
    "armor failure": HEADER_FAULTS,
    "payload failure": (ArchiveDamaged,),
}


def parse(vector: bytes) -> tuple[dict[str, list[str]], bytes]:
    head, body = vector.split(b"\n\n", 1)
    fields: dict[str, list[str]] = {}
    for line in head.decode().splitlines():
        name, value = line.split(": ", 1)
        fields.setdefault(name, []).append(value)
    if fields.get("compressed") == ["zlib"]:
        body = zlib.decompress(body)
    return fields, body


def test_all_143_vectors_are_here() -> None:
    assert len(VECTORS) == 143


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_vector(name: str) -> None:
    fields, body = parse(base64.b64decode(VECTORS[name]))
    identities = [parse_identity(text) for text in fields.get("identity", [])]
    identities += [Passphrase(text.encode()) for text in fields.get("passphrase", [])]
    plaintext = bytearray()
    outcome: SecrynError | None = None
    try:
        source = io.BytesIO(body)
        reader = DecryptReader(
            ArmorReader(source) if fields.get("armored") == ["yes"] else source,
            identities,
            allow_scrypt="passphrase" in fields,
        )
        while chunk := reader.read(64 * 1024):
            plaintext += chunk
    except SecrynError as error:
        outcome = error
    expected = fields["expect"][0]
    if expected == "success":
        assert outcome is None
    else:
        assert isinstance(outcome, EXPECTED[expected]), f"{expected}: {outcome!r}"
    if "payload" in fields:
        assert hashlib.sha256(plaintext).hexdigest() == fields["payload"][0]
