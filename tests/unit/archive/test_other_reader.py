"""A second reader, written from FORMAT.md alone, reads what the writer writes.

It shares no code with shared/archive: age by hand, the tar stream by the standard library.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import struct
import tarfile

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from shared.archive.age import HybridIdentity, X25519Identity
from tests.unit.archive.building import build, data_key_row, project, timestamp

SEED = bytes(range(50, 82))


def b64(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4))


def extract(salt: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), material, "sha256")


def expand(key: bytes, info: bytes, size: int = 32) -> bytes:
    assert size <= 32
    return hmac.digest(key, info + b"\1", "sha256")[:size]


def hkdf(salt: bytes, material: bytes, info: bytes) -> bytes:
    return expand(extract(salt, material), info)


def open_x25519(arguments: list[bytes], body: bytes) -> bytes:
    private, share = X25519PrivateKey.from_private_bytes(SEED), b64(arguments[0])
    shared = private.exchange(X25519PublicKey.from_public_bytes(share))
    salt = share + private.public_key().public_bytes_raw()
    key = hkdf(salt, shared, b"age-encryption.org/v1/X25519")
    return ChaCha20Poly1305(key).decrypt(bytes(12), body, None)


def open_hybrid(arguments: list[bytes], body: bytes) -> bytes:
    enc, keys = b64(arguments[0]), hashlib.shake_256(SEED).digest(96)
    private = X25519PrivateKey.from_private_bytes(keys[64:])
    ml_secret = MLKEM768PrivateKey.from_seed_bytes(keys[:64]).decapsulate(enc[:1088])
    x_secret = private.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
    own = private.public_key().public_bytes_raw()
    shared = hashlib.sha3_256(ml_secret + x_secret + enc[1088:] + own + b"\\.//^\\").digest()
    # RFC 9180, section 5.1, base mode.
    suite = b"HPKE" + struct.pack(">HHH", 0x647A, 0x0001, 0x0003)

    def labelled(salt: bytes, label: bytes, material: bytes) -> bytes:
        return extract(salt, b"HPKE-v1" + suite + label + material)

    info = labelled(b"", b"info_hash", b"age-encryption.org/mlkem768x25519")
    context = b"\0" + labelled(b"", b"psk_id_hash", b"") + info
    secret = labelled(shared, b"secret", b"")
    key, nonce = (
        expand(secret, struct.pack(">H", size) + b"HPKE-v1" + suite + label + context, size)
        for label, size in ((b"key", 32), (b"base_nonce", 12))
    )
    return ChaCha20Poly1305(key).decrypt(nonce, body, None)


def decrypt(data: bytes) -> bytes:
    head, _, rest = data.partition(b"\n--- ")
    mac, _, payload = rest.partition(b"\n")
    intro, stanza, *body = head.split(b"\n")
    kind, *arguments = stanza.removeprefix(b"-> ").split(b" ")
    opener = {b"X25519": open_x25519, b"mlkem768x25519": open_hybrid}[kind]
    file_key = opener(arguments, b64(b"".join(body)))
    assert intro == b"age-encryption.org/v1"
    assert hmac.digest(hkdf(b"", file_key, b"header"), head + b"\n---", "sha256") == b64(mac)
    cipher = ChaCha20Poly1305(hkdf(payload[:16], file_key, b"payload"))
    chunks = [payload[at : at + 65_536 + 16] for at in range(16, len(payload), 65_536 + 16)]
    return b"".join(
        cipher.decrypt(number.to_bytes(11, "big") + bytes([number == len(chunks) - 1]), chunk, None)
        for number, chunk in enumerate(chunks)
    )


def tuples(stream: bytes) -> list[list[bytes | None]]:
    assert stream.startswith(b"PGCOPY\n\xff\r\n\0" + bytes(8))
    assert stream.endswith(b"\xff\xff")
    at, found = 19, []
    while (fields := struct.unpack_from(">h", stream, at)[0]) >= 0:
        at, row = at + 2, []
        for _ in range(fields):
            (size,) = struct.unpack_from(">i", stream, at)
            row.append(stream[at + 4 : at + 4 + size] if size >= 0 else None)
            at += 4 + max(size, 0)
        found.append(row)
    assert at + 2 == len(stream)
    return found


def packed(row: list[bytes | None]) -> bytes:
    fields = [struct.pack(">i", -1 if f is None else len(f)) + (f or b"") for f in row]
    return struct.pack(">h", len(row)) + b"".join(fields)


def table_digest(name: str, rows: list[list[bytes | None]]) -> str:
    total = 0
    for fields in rows:
        row = fields
        if name == "keyring":
            data_key, check_value = row[3], row[4]
            assert data_key is not None
            assert hmac.digest(data_key, b"secryn data key check v1", "sha256")[:16] == check_value
            row = [*row[:3], *row[4:]]
        total += int.from_bytes(hashlib.sha512(packed(row)).digest(), "big")
    head = b"secryn table v1\0" + name.encode() + b"\0%d\0" % len(rows)
    return hashlib.sha256(head + (total % 2**512).to_bytes(64, "big")).hexdigest()


@pytest.mark.parametrize("kind", [X25519Identity, HybridIdentity])
def test_a_reader_made_from_the_page_alone_reads_and_proves_an_archive(
    kind: type[X25519Identity] | type[HybridIdentity],
) -> None:
    rows = {
        "projects": [project("ä", timestamp(1)), project("", number=2), project("x" * 200_000)],
        "keyring": [data_key_row()],
    }
    archive = build(rows, rows_a_part=2, identity=kind(SEED))
    with tarfile.open(
        fileobj=io.BytesIO(decrypt(archive.data)), format=tarfile.USTAR_FORMAT
    ) as tar:
        found = {info.name: tar.extractfile(info) for info in tar.getmembers()}
        content = {name: file.read() for name, file in found.items() if file is not None}
    names = list(content)
    assert (names[0], names[-3:]) == (
        "backup.json", ["schema.sql", "manifest.json", "manifest.sig"]
    )  # fmt: skip
    manifest = json.loads(content["manifest.json"])
    public = bytes.fromhex(manifest["signer_public_key"])
    signed = b"secryn manifest v1\0" + content["manifest.json"]
    Ed25519PublicKey.from_public_bytes(public).verify(content["manifest.sig"], signed)
    fingerprint = base64.urlsafe_b64encode(hashlib.sha256(public).digest()).rstrip(b"=").decode()
    assert manifest["signer"] == "SHA256:" + fingerprint
    assert manifest["backup"] == json.loads(content["backup.json"])
    assert manifest["members"] == [
        {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in list(content.items())[:-2]
    ]
    digests = {}
    for name, table in manifest["tables"].items():
        parts = [f"tables/{name}/{number:06d}.copy.zst" for number in range(table["parts"])]
        read = [row for part in parts for row in tuples(zstandard.decompress(content[part]))]
        assert read == [list(row) for row in rows.get(name, [])]
        digests[name] = table_digest(name, read)
        assert (len(read), digests[name]) == (table["rows"], table["digest"])
    canonical = json.dumps(
        {"schema_version": 1, "tables": digests}, sort_keys=True, separators=(",", ":")
    )
    assert hashlib.sha256(canonical.encode()).hexdigest() == manifest["digest"]
    assert hashlib.sha256(archive.data).hexdigest() == archive.key.sha256
