"""``python -m shared.archive.age`` as a person or a script runs it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shared.archive.age import HybridIdentity, Passphrase, X25519Identity, parse_identity, seal
from shared.errors import KeyMalformed, UsageError, WrongKeyOrHeader

ROOT = Path(__file__).parents[2]
PLAINTEXT = os.urandom(100_000)


def age(*arguments: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "shared.archive.age", *map(str, arguments)]
    return subprocess.run(
        command, input=data, capture_output=True, timeout=60, cwd=ROOT, check=False
    )


def key_file(folder: Path, text: str) -> Path:
    path = folder / "key.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", [[], ["--x25519"]])
@pytest.mark.parametrize("armor", [[], ["--armor"]])
def test_a_generated_key_opens_what_was_encrypted_to_it(
    tmp_path: Path, kind: list[str], armor: list[str]
) -> None:
    key = tmp_path / "key.txt"
    made = age("keygen", *kind, "-o", key)
    recipient = made.stderr.decode().removeprefix("Public key: ").strip()
    encrypted = age("encrypt", "-r", recipient, *armor, data=PLAINTEXT)
    assert encrypted.returncode == 0
    assert encrypted.stdout.startswith(b"-----BEGIN" if armor else b"age-encryption.org/v1\n")
    decrypted = age("decrypt", "-i", key, data=encrypted.stdout)
    assert (decrypted.returncode, decrypted.stdout) == (0, PLAINTEXT)


@pytest.mark.parametrize(
    ("flags", "secret", "public"),
    [([], "AGE-SECRET-KEY-PQ-1", "age1pq1"), (["--x25519"], "AGE-SECRET-KEY-1", "age1")],
)
def test_keygen_prints_an_identity_behind_its_recipient(
    flags: list[str], secret: str, public: str
) -> None:
    created, comment, text = age("keygen", *flags).stdout.decode().splitlines()
    identity = parse_identity(text)
    assert created.startswith("# created: 2")
    recipient = identity.to_recipient().encode()
    assert text.startswith(secret)
    assert recipient.startswith(public)
    assert comment == f"# public key: {recipient}"


def test_a_key_file_is_closed_to_others_and_never_replaced(tmp_path: Path) -> None:
    key = tmp_path / "key.txt"
    first = age("keygen", "--x25519", "-o", key)
    content = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert b"AGE-SECRET-KEY" not in first.stdout + first.stderr
    again = age("keygen", "--x25519", "-o", key)
    assert again.returncode != 0
    assert b"AGE-SECRET-KEY" not in again.stdout + again.stderr
    assert key.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["key.txt"]


def test_each_of_several_recipients_opens_the_file(tmp_path: Path) -> None:
    identities = [X25519Identity.generate(), X25519Identity.generate()]
    named = [word for i in identities for word in ("-r", i.to_recipient().encode())]
    encrypted = age("encrypt", *named, data=b"for both").stdout
    for identity in identities:
        key = key_file(tmp_path, identity.encode() + "\n")
        assert age("decrypt", "-i", key, data=encrypted).stdout == b"for both"


def test_a_key_file_may_hold_several_identities_and_comments(tmp_path: Path) -> None:
    wanted = X25519Identity.generate()
    others = [HybridIdentity.generate().encode(), X25519Identity.generate().encode()]
    key = key_file(tmp_path, "\n".join(["# mine", *others, "", wanted.encode(), ""]))
    sealed = seal(b"found", [wanted.to_recipient()])
    assert age("decrypt", "-i", key, data=sealed).stdout == b"found"


def test_a_passphrase_is_taken_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    sealed = seal(PLAINTEXT, [Passphrase(b"correct horse", work_factor=10)])
    file = tmp_path / "passphrase"
    file.write_bytes(b"correct horse\r\n")
    assert age("decrypt", "--passphrase-file", file, data=sealed).stdout == PLAINTEXT


def test_a_wrong_passphrase_and_a_wrong_key_are_refused_without_a_byte_of_output(
    tmp_path: Path,
) -> None:
    secret = X25519Identity.generate()
    file = tmp_path / "passphrase"
    file.write_bytes(b"wrong horse\n")
    key = key_file(tmp_path, secret.encode())
    by_passphrase = seal(PLAINTEXT, [Passphrase(b"correct horse", work_factor=10)])
    by_key = seal(PLAINTEXT, [X25519Identity.generate().to_recipient()])
    for refused in (
        age("decrypt", "--passphrase-file", file, data=by_passphrase),
        age("decrypt", "-i", key, data=by_key),
    ):
        assert (refused.returncode, refused.stdout) == (WrongKeyOrHeader.exit_code, b"")
        assert WrongKeyOrHeader.code.encode() in refused.stderr
        assert b"horse" not in refused.stderr
        assert secret.encode().encode() not in refused.stderr


def test_a_damaged_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    damaged = X25519Identity.generate().encode()[:-1]
    refused = age("decrypt", "-i", key_file(tmp_path, damaged), data=b"")
    assert refused.returncode == KeyMalformed.exit_code
    assert KeyMalformed.code.encode() in refused.stderr
    assert damaged[16:].encode() not in refused.stderr
    assert b"Traceback" not in refused.stderr


def test_a_file_that_is_no_key_file_at_all_is_refused_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "backup.age"
    file.write_bytes(b"age-encryption.org/v1\n\xff\xfe\x00")
    refused = age("decrypt", "-i", file, data=b"")
    assert refused.returncode == KeyMalformed.exit_code
    assert b"Traceback" not in refused.stderr


def test_post_quantum_recipients_are_not_mixed_with_others() -> None:
    post_quantum = HybridIdentity.generate().to_recipient().encode()
    classic = X25519Identity.generate().to_recipient().encode()
    refused = age("encrypt", "-r", post_quantum, "-r", classic, data=b"secret")
    assert (refused.returncode, refused.stdout) == (UsageError.exit_code, b"")


def test_a_missing_key_file_is_told_in_a_line(tmp_path: Path) -> None:
    refused = age("decrypt", "-i", tmp_path / "nothing", data=b"")
    assert refused.returncode != 0
    assert b"nothing" in refused.stderr
    assert b"Traceback" not in refused.stderr
