"""Documents and signatures that no writer of ours makes, and age headers that keep one busy."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from shared.archive.age import Passphrase, seal
from shared.archive.age.header import Stanza, encode_header
from shared.archive.limits import DEFAULT_LIMITS
from shared.archive.manifest import SIGNATURE_DOMAIN, BackupHeader, encode_document
from shared.archive.verify import check_schema
from shared.errors import ManifestMismatch, SchemaTooNew
from tests.unit.archive.building import (
    HEADER,
    IDENTITY,
    OTHER_SIGNER,
    SIGNER,
    TABLE,
    build,
    handmade,
    project,
)
from tests.unit.archive.refusing import MiB, assert_refused, code_of

OTHER = OTHER_SIGNER.public.raw.hex()


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return an archive whose manifest was changed before it was signed."""
    made = handmade([project("x")])

    def apply(document: dict[str, Any]) -> None:
        change(document)

    made.change = apply
    return made.sealed()


MISMATCHES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another backup": lambda m: m["backup"].update(backup_id=str(HEADER.instance_id)),
    "another offset": lambda m: m["backup"].update(offset=43),
    "fewer rows": lambda m: m["tables"][TABLE].update(rows=0),
    "more rows": lambda m: m["tables"][TABLE].update(rows=2),
    "another table digest": lambda m: m["tables"][TABLE].update(digest="0" * 64),
    "another digest": lambda m: m.update(digest="0" * 64),
    "more parts": lambda m: m["tables"][TABLE].update(parts=2),
    "no table": lambda m: m.update(tables={}),
    "another table": lambda m: m["tables"].update(vaults=m["tables"].pop(TABLE)),
    "one table more": lambda m: m["tables"].update(vaults=m["tables"][TABLE]),
    "no members": lambda m: m.update(members=[]),
    "a member less": lambda m: m["members"].pop(),
    "a member more": lambda m: m["members"].append(m["members"][0]),
    "members in another order": lambda m: m["members"].reverse(),
    "another size": lambda m: m["members"][1].update(size=1),
    "another hash": lambda m: m["members"][1].update(sha256="0" * 64),
    "another name": lambda m: m["members"][1].update(name="x"),
}


@pytest.mark.parametrize("case", list(MISMATCHES))
def test_content_against_the_manifest_is_refused(case: str) -> None:
    assert_refused(changed(MISMATCHES[case]), "archive.manifest_mismatch")


MALFORMED: dict[str, Callable[[dict[str, Any]], object]] = {
    "a field more": lambda m: m.update(extra=1),
    "a field less": lambda m: m.pop("digest"),
    "a name of a table": lambda m: m["tables"].update({"../x": m["tables"][TABLE]}),
    "a name with a line end": lambda m: m["tables"].update({"a\n": m["tables"][TABLE]}),
    "a negative row count": lambda m: m["tables"][TABLE].update(rows=-1),
    "a row count beyond 63 bits": lambda m: m["tables"][TABLE].update(rows=2**63),
    "no parts": lambda m: m["tables"][TABLE].update(parts=0),
    "a short digest": lambda m: m.update(digest="00"),
    "a digest in capitals": lambda m: m.update(digest="A" * 64),
    "a digest with a line end": lambda m: m.update(digest="0" * 64 + "\n"),
    "a long signer": lambda m: m.update(signer="s" * 256),
    "a key that is none": lambda m: m.update(signer_public_key="x" * 64),
    "a list of tables": lambda m: m.update(tables=[]),
    "a long column": lambda m: m["tables"][TABLE]["columns"][0].update(type="t" * 256),
}


@pytest.mark.parametrize("case", list(MALFORMED))
def test_a_malformed_manifest_is_refused(case: str) -> None:
    assert_refused(changed(MALFORMED[case]), "archive.malformed")


@pytest.mark.parametrize(
    "manifest",
    [
        b"", b"null", b"[]", b"{}", b"{", b'{"a":NaN}', b"\xff\xfe{}", b'{"\xc3\x28":1}',
        b"[" * 10_000, b'{"a":' * 8_000, b"1" * 500_000, b'"' + b"a" * MiB + b'"',
        b'{"' + b"a" * MiB + b'":1}',
    ],
)  # fmt: skip
def test_a_manifest_that_is_no_such_document_is_refused(manifest: bytes) -> None:
    made = handmade()
    made.manifest = manifest
    assert_refused(made.sealed(), "archive.malformed")


@pytest.mark.parametrize(
    ("head", "item", "tail"),
    [
        (b'{"members":[', b"0,", b"0]}"),
        (b'{"members":[', b"[],", b"0]}"),
        (b'{"members":[', b"{},", b"0]}"),
        (b"", b"[", b""),
        (b"{", b'"a":0,', b'"a":0}'),
        (b'{"tables":{', b'"a":0,', b'"a":0}}'),
    ],
)
def test_a_giant_manifest_is_refused_before_it_is_parsed(
    head: bytes, item: bytes, tail: bytes
) -> None:
    made = handmade()
    made.manifest = head + item * (4 * MiB // len(item)) + tail
    # The manifest itself is held, twice for a moment.
    assert_refused(made.sealed(), "archive.limit_exceeded", memory_bytes=16 * MiB)


def test_the_largest_manifest_is_held_and_not_parsed() -> None:
    made = handmade()
    made.manifest = b"[" * DEFAULT_LIMITS.manifest_bytes
    assert_refused(made.sealed(), "archive.limit_exceeded", memory_bytes=80 * MiB)


def test_as_many_faults_as_a_manifest_can_hold_cost_little() -> None:
    made = handmade()
    values = DEFAULT_LIMITS.manifest_values
    made.manifest = b"{" + b",".join(b'"%x":0' % n for n in range(values)) + b"}"
    assert_refused(made.sealed(), "archive.malformed", memory_bytes=64 * MiB)


def header_with(**fields: object) -> bytes:
    document = HEADER.model_dump(mode="json") | fields
    made = handmade()
    made.backup_json = json.dumps(document).encode()
    return made.sealed()


def test_a_newer_format_is_told_apart_whatever_else_is_new_about_it() -> None:
    assert code_of(header_with(format_version=1)) is None
    for fields in ({}, {"new_field": 1}, {"offset": None}, {"backup_id": "of another form"}):
        assert_refused(header_with(format_version=2, **fields), "archive.format_too_new")


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "other"}, {"format_version": 0}, {"format_version": -1}, {"extra": 1},
        {"format_version": None}, {"backup_id": "x"}, {"environment": ""}, {"offset": -1},
        {"environment": "e" * 256}, {"created_at": "yesterday"}, {"schema_version": 0},
        {"created_at": "2026-01-02T03:04:05"}, {"epoch": 2**63}, {"format": "other", "format_version": 2},
    ],
)  # fmt: skip
def test_a_malformed_header_is_refused(fields: dict[str, object]) -> None:
    assert_refused(header_with(**fields), "archive.malformed")


def test_a_backup_json_full_of_faults_costs_little() -> None:
    made = handmade()
    made.backup_json = b"{" + b",".join(b'"%x":0' % n for n in range(6_000)) + b"}"
    assert_refused(made.sealed(), "archive.malformed", memory_bytes=32 * MiB)


def test_a_schema_that_is_newer_or_has_other_tables_is_refused() -> None:
    check_schema(build().manifest)
    with pytest.raises(ManifestMismatch):
        check_schema(build(tables=[TABLE]).manifest)
    newer = HEADER.model_copy(update={"schema_version": 9_999})
    with pytest.raises(SchemaTooNew):
        check_schema(build(header=newer).manifest)


def test_a_header_without_a_time_zone_is_not_written() -> None:
    with pytest.raises(ValueError, match="timezone"):
        BackupHeader(**HEADER.model_dump() | {"created_at": datetime(2026, 1, 1)})


def test_an_altered_signature_is_refused() -> None:
    made = handmade()
    signature = SIGNER.sign(SIGNATURE_DOMAIN + made._manifest())
    for wrong in (
        bytes(64),
        signature[::-1],
        signature[:-1],
        SIGNER.sign(made._manifest()),
        SIGNER.sign(b"secryn receipt v1\0" + made._manifest()),
        OTHER_SIGNER.sign(SIGNATURE_DOMAIN + made._manifest()),
    ):
        made.signature = wrong
        assert_refused(made.sealed(), "archive.signature_invalid")
    made.signature = signature
    assert code_of(made.sealed()) is None


def test_an_empty_signature_is_refused() -> None:
    from tests.unit.archive.building import member

    tar = handmade().tar()[: -1024 - 1024]
    data = seal(tar + member("manifest.sig", b"") + bytes(1024), [IDENTITY.to_recipient()])
    assert_refused(data, "archive.signature_invalid")


@pytest.mark.parametrize(
    "change",
    [
        {"signer": OTHER_SIGNER.fingerprint},
        {"signer_public_key": OTHER},
        {"signer_public_key": OTHER, "signer": OTHER_SIGNER.fingerprint},
        {"signer_public_key": "0" * 64},
        {"signer_public_key": "f" * 64},
        {"signer": "x"},
    ],
)
def test_a_signer_that_did_not_sign_is_refused(change: dict[str, str]) -> None:
    assert_refused(changed(lambda m: m.update(change)), "archive.signature_invalid")


# The age header ---------------------------------------------------------------------------------

STANZA = IDENTITY.to_recipient().wrap(bytes(16))


def age(*stanzas: Stanza) -> bytes:
    return encode_header(stanzas, bytes(16)) + bytes(16 + 16)


class Endless:
    """A file whose header never ends: ``begin``, then ``repeated`` for ever."""

    def __init__(self, begin: bytes, repeated: bytes) -> None:
        self._begin, self._repeated = begin, repeated

    def read(self, size: int = -1, /) -> bytes:
        taken, self._begin = self._begin[:size], self._begin[size:]
        if taken:
            return taken
        data = (self._repeated * (size // len(self._repeated) + 2))[:size]
        turn = size % len(self._repeated)
        self._repeated = self._repeated[turn:] + self._repeated[:turn]
        return data


@pytest.mark.parametrize(
    "repeated", [b"a", b"-> X25519 abc\n\n", b"-> a" + b" a" * 99, b"A" * 64 + b"\n", b"\n"]
)
@pytest.mark.parametrize("begin", [b"", b"-> X25519 abc\n"])
def test_a_header_that_never_ends_is_refused(begin: bytes, repeated: bytes) -> None:
    source = Endless(b"age-encryption.org/v1\n" + begin, repeated)
    assert_refused(source, "archive.header_invalid", memory_bytes=8 * MiB)


def test_as_many_stanzas_as_allowed_are_tried_and_no_more() -> None:
    strange = Stanza("grease", ("a",), b"")
    most = DEFAULT_LIMITS.header_stanzas
    writer_like = age(*[strange] * (most - 1), STANZA)
    assert code_of(writer_like) == "archive.damaged"
    assert_refused(age(*[strange] * most, STANZA), "archive.header_invalid")
    assert_refused(age(*[STANZA] * (most + 1)), "archive.header_invalid")


def test_a_body_over_the_limit_is_refused() -> None:
    assert_refused(age(Stanza("x", (), bytes(70_000)), STANZA), "archive.header_invalid")


def test_a_passphrase_is_no_key_of_an_archive() -> None:
    costly = Stanza("scrypt", ("A" * 22, "30"), bytes(32))
    assert_refused(age(costly), "archive.header_invalid", memory_bytes=8 * MiB)
    assert_refused(age(costly, STANZA), "archive.header_invalid", memory_bytes=8 * MiB)
    data = seal(handmade().tar(), [Passphrase(b"word", work_factor=1)])
    assert_refused(data, "archive.header_invalid")


def test_a_header_without_a_stanza_or_with_another_mac_is_refused() -> None:
    assert_refused(age(), "archive.header_invalid")
    assert_refused(age(STANZA).replace(b"\n--- ", b"\n---  "), "archive.header_invalid")
    other = encode_header([STANZA], b"\1" * 16) + bytes(32)
    assert_refused(other, "archive.wrong_key_or_header")


def test_an_age_file_that_is_no_archive_is_refused() -> None:
    for plaintext in (b"", b"text", bytes(512), bytes(1024), bytes(100_000), b"\xff" * 512):
        assert_refused(seal(plaintext, [IDENTITY.to_recipient()]), "archive.malformed")


def test_documents_are_written_as_the_page_says() -> None:
    assert json.loads(encode_document(HEADER)) == HEADER.model_dump(mode="json")
