"""The key file says what it belongs to, and trust takes more than a matching name."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from shared.archive.age import HybridIdentity, Identity, X25519Identity
from shared.archive.keyfile import MAX_KEY_FILE_BYTES, KeyFile, check_key_file, read_key_file
from shared.archive.trust import check_trust
from shared.errors import (
    ArchiveAltered,
    ArchiveDamaged,
    KeyMalformed,
    NotAnAgeFile,
    SecrynError,
    SignerUntrusted,
    UsageError,
    WrongKeyOrHeader,
)
from tests.unit.archive.building import (
    BACKUP_ID,
    IDENTITY,
    INSTANCE_ID,
    OTHER_SIGNER,
    SIGNER,
    TABLE,
    build,
)

ARCHIVE = build(tables=[TABLE])
KEY = ARCHIVE.key
SHA256 = hashlib.sha256(ARCHIVE.data).hexdigest()
BARE = KeyFile(IDENTITY)


@pytest.mark.parametrize("identity", [X25519Identity.generate(), HybridIdentity.generate()])
def test_what_is_written_is_read(identity: Identity) -> None:
    key = replace(KEY, identity=identity)
    assert KeyFile.parse(key.render()) == key
    assert KeyFile.parse(identity.encode()) == KeyFile(identity)


def test_a_key_file_is_one_for_age_too() -> None:
    lines = KEY.render().splitlines()
    assert all(line.startswith("#") for line in lines[:-1])
    assert lines[-1] == IDENTITY.encode()
    assert KEY.render().endswith("\n")


def test_a_key_is_in_no_repr() -> None:
    assert IDENTITY.encode() not in repr(KEY)
    assert "_secret" not in repr(KEY.identity)


def test_a_value_with_a_line_end_stays_in_its_comment() -> None:
    key = replace(KEY, environment="a\n# signer: SHA256:forged\r\u2028b")
    read = KeyFile.parse(key.render())
    assert read.environment == "a # signer: SHA256:forged b"
    assert read.signer == KEY.signer


def test_unknown_comments_empty_lines_and_carriage_returns_are_passed_over() -> None:
    text = f"# made: by hand\n#\n\n# backup: {BACKUP_ID}\n#signer: x\n {IDENTITY.encode()} \n\n"
    read = KeyFile.parse(text.replace("\n", "\r\n"))
    assert read == KeyFile(IDENTITY, backup_id=str(BACKUP_ID), signer="x")


TEXT = IDENTITY.encode()
MALFORMED = {
    "nothing": "",
    "comments alone": "# backup: x\n",
    "two keys": f"{TEXT}\n{TEXT}\n",
    "a key and a word": f"{TEXT}\nword\n",
    "a recipient": IDENTITY.to_recipient().encode(),
    "small letters": TEXT.lower(),
    "a cut key": TEXT[:-1],
    "a wrong letter": TEXT[:-1] + ("Q" if TEXT[-1] != "Q" else "P"),
    "another kind of key": "AGE-PLUGIN-YUBIKEY-1QQQ",
    "a key of a wrong length": "AGE-SECRET-KEY-1QQQQQQQQQQQQ",
    "a label twice": f"# signer: a\n# signer: b\n{TEXT}\n",
    "too long": "#" * MAX_KEY_FILE_BYTES + f"\n{TEXT}\n",
    "too long in bytes": "#" + "ä" * (MAX_KEY_FILE_BYTES // 2) + f"\n{TEXT}\n",
}


@pytest.mark.parametrize("case", list(MALFORMED))
def test_what_is_no_key_file_is_refused_and_no_message_holds_the_key(case: str) -> None:
    with pytest.raises(KeyMalformed) as caught:
        KeyFile.parse(MALFORMED[case])
    said = caught.value.message + caught.value.advice
    assert TEXT[20:40].lower() not in said.lower()


def test_a_file_that_is_no_text_or_too_long_or_missing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.txt"
    for content in (b"\xff\xfe\0", b"#" * (MAX_KEY_FILE_BYTES + 1), b"#" * 50_000_000):
        file.write_bytes(content)
        with pytest.raises(KeyMalformed):
            read_key_file(file)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError):
            read_key_file(missing)


def written(folder: Path, key: KeyFile, data: bytes) -> tuple[Path, Path]:
    (folder / "key.txt").write_text(key.render(), encoding="utf-8")
    (folder / "backup.age").write_bytes(data)
    return folder / "key.txt", folder / "backup.age"


@pytest.mark.parametrize(("key", "checked"), [(KEY, True), (BARE, False)])
def test_a_key_and_its_file_belong_together(tmp_path: Path, key: KeyFile, checked: bool) -> None:
    found = check_key_file(*written(tmp_path, key, ARCHIVE.data))
    assert (found["belong_together"], found["sha256_checked"]) == (True, checked)
    assert (found["backup_id"], found["instance_id"]) == (str(BACKUP_ID), str(INSTANCE_ID))
    assert found["sha256"] == SHA256


@pytest.mark.parametrize(
    ("key", "data", "error"),
    [
        (replace(KEY, identity=X25519Identity.generate()), ARCHIVE.data, WrongKeyOrHeader),
        (KEY, build(tables=[TABLE]).data, ArchiveAltered),
        (KEY, ARCHIVE.data + b"\0" * 999, ArchiveDamaged),
        (replace(KEY, sha256="ä"), ARCHIVE.data, ArchiveAltered),
        (KEY, b"text", NotAnAgeFile),
    ],
)
def test_a_key_and_another_file_do_not(
    tmp_path: Path, key: KeyFile, data: bytes, error: type[SecrynError]
) -> None:
    with pytest.raises(error):
        check_key_file(*written(tmp_path, key, data))


# Trust ------------------------------------------------------------------------------------------


def trusted(
    key: KeyFile, signers: tuple[str, ...] = (), trust_signer: str | None = None, sha: str = SHA256
) -> str:
    return check_trust(ARCHIVE.manifest, sha, key, signers, trust_signer)


def test_the_signer_of_the_place_is_trusted_with_a_bare_key() -> None:
    assert trusted(BARE, (OTHER_SIGNER.fingerprint, SIGNER.fingerprint)) == "signer"


def test_a_key_file_that_names_the_file_and_its_signer_is_trusted() -> None:
    assert trusted(KEY) == "key_file"


def test_a_signer_that_the_caller_names_is_trusted() -> None:
    assert trusted(BARE, (), SIGNER.fingerprint) == "caller"


def test_nothing_else_is_trusted() -> None:
    for key in (
        BARE,
        replace(KEY, signer=None),
        replace(KEY, signer=OTHER_SIGNER.fingerprint),
        replace(KEY, sha256=None),
        replace(KEY, backup_id=None),
        replace(KEY, backup_id=str(INSTANCE_ID)),
        replace(KEY, instance_id=None),
        replace(KEY, instance_id=str(BACKUP_ID)),
    ):
        with pytest.raises(SignerUntrusted):
            trusted(key, (OTHER_SIGNER.fingerprint,))


@pytest.mark.parametrize("named", [OTHER_SIGNER.fingerprint, "", "ü", SIGNER.public.raw.hex()])
def test_a_wrong_signer_that_the_caller_names_is_refused_whatever_the_key_file_says(
    named: str,
) -> None:
    with pytest.raises(SignerUntrusted):
        trusted(KEY, (), named)


def test_another_sha256_than_the_key_file_names_is_refused_whatever_is_trusted() -> None:
    for sha256 in ("0" * 64, SHA256.upper(), "ä"):
        with pytest.raises(ArchiveAltered):
            trusted(KEY, (SIGNER.fingerprint,), SIGNER.fingerprint, sha256)
