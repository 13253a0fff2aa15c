"""Our age against others, both ways: npm's age-encryption (post-quantum too) and Debian's age.

On a machine without them the tests say so and are skipped; where CI is set they fail instead.
"""

import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from shared.archive.age import (
    DecryptReader,
    HybridIdentity,
    Identity,
    Passphrase,
    X25519Identity,
    parse_identity,
    parse_recipient,
    seal,
)
from shared.archive.age.armor import ArmorReader, ArmorWriter
from shared.archive.age.stream import CHUNK_BYTES

INTEROP = Path(__file__).parents[1] / "interop"
LENGTHS = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES]
KINDS: dict[str, type[HybridIdentity] | type[X25519Identity]] = {
    "post-quantum": HybridIdentity,
    "x25519": X25519Identity,
}
TIMEOUT_S = 60


def require(*, there: bool, otherwise: str) -> None:
    if there:
        return
    if os.environ.get("CI"):
        pytest.fail(otherwise)
    pytest.skip(otherwise)


def run(command: list[str], data: bytes = b"") -> bytes:
    done = subprocess.run(command, input=data, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


class Npm:
    """npm's age-encryption, through tests/interop/age.mjs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _command(self, name: str, text: str, *flags: str) -> list[str]:
        file = self._folder / "keys.txt"
        file.write_text(text + "\n", encoding="utf-8")
        return ["node", str(INTEROP / "age.mjs"), name, str(file), *flags]

    def keygen(self, *flags: str) -> str:
        return run(["node", str(INTEROP / "age.mjs"), "keygen", *flags]).decode()

    def encrypt(self, recipient: str, data: bytes, *flags: str) -> bytes:
        return run(self._command("encrypt", recipient, *flags), data)

    def decrypt(self, identity: str, data: bytes, *flags: str) -> bytes:
        return run(self._command("decrypt", identity, *flags), data)


class Debian:
    """The age tool."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keygen(self) -> str:
        return run(["age-keygen"]).decode()

    def encrypt(self, recipient: str, data: bytes, *flags: str) -> bytes:
        return run(["age", "--encrypt", "--recipient", recipient, *flags], data)

    def decrypt(self, identity: str, data: bytes) -> bytes:
        file = self._folder / "key.txt"
        file.write_text(identity + "\n", encoding="utf-8")
        return run(["age", "--decrypt", "--identity", str(file)], data)


@pytest.fixture
def npm(tmp_path: Path) -> Npm:
    installed = (INTEROP / "node_modules" / "age-encryption").is_dir()
    require(
        there=installed and shutil.which("node") is not None,
        otherwise="npm's age-encryption is missing: install Node and npm, run `make test-deps`",
    )
    return Npm(tmp_path)


@pytest.fixture
def debian(tmp_path: Path) -> Debian:
    require(
        there=shutil.which("age") is not None and shutil.which("age-keygen") is not None,
        otherwise="the tool age is missing: run `apt-get install age`",
    )
    return Debian(tmp_path)


def recipient_of(identity: Identity) -> str:
    return identity.to_recipient().encode()


def opened(data: bytes, identity: Identity, *, allow_scrypt: bool = False) -> bytes:
    return DecryptReader(io.BytesIO(data), [identity], allow_scrypt=allow_scrypt).read()


def armored(data: bytes) -> bytes:
    sink = io.BytesIO()
    writer = ArmorWriter(sink)
    writer.write(data)
    writer.close()
    return sink.getvalue()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
class TestNpm:
    def test_opens_what_we_encrypt(self, npm: Npm, kind: str, length: int) -> None:
        identity, plaintext = KINDS[kind].generate(), os.urandom(length)
        sealed = seal(plaintext, [identity.to_recipient()])
        assert npm.decrypt(identity.encode(), sealed) == plaintext

    def test_encrypts_what_we_open(self, npm: Npm, kind: str, length: int) -> None:
        identity, plaintext = KINDS[kind].generate(), os.urandom(length)
        sealed = npm.encrypt(recipient_of(identity), plaintext)
        assert opened(sealed, identity) == plaintext


@pytest.mark.parametrize("kind", KINDS)
def test_armor_is_the_same_for_npm(npm: Npm, kind: str) -> None:
    identity, plaintext = KINDS[kind].generate(), os.urandom(CHUNK_BYTES + 1)
    ours = armored(seal(plaintext, [identity.to_recipient()]))
    assert npm.decrypt(identity.encode(), ours) == plaintext
    theirs = npm.encrypt(recipient_of(identity), plaintext, "--armor")
    assert opened(ArmorReader(io.BytesIO(theirs)).read(), identity) == plaintext


@pytest.mark.parametrize(("kind", "flags"), [("post-quantum", ()), ("x25519", ("--x25519",))])
def test_keys_made_by_npm_are_read_here_and_have_the_same_recipient(
    npm: Npm, kind: str, flags: tuple[str, ...]
) -> None:
    comment, text = npm.keygen(*flags).splitlines()
    identity = parse_identity(text)
    assert isinstance(identity, KINDS[kind])
    assert comment == f"# public key: {recipient_of(identity)}"
    assert identity.encode() == text


def test_a_passphrase_opens_both_ways_with_npm(npm: Npm) -> None:
    words, plaintext = "a long pass phrase of ours", os.urandom(1000)
    passphrase = Passphrase(words.encode(), work_factor=10)
    assert npm.decrypt(words, seal(plaintext, [passphrase]), "--passphrase") == plaintext
    theirs = npm.encrypt(words, plaintext, "--passphrase")
    assert opened(theirs, passphrase, allow_scrypt=True) == plaintext


def test_npm_opens_a_file_for_several_recipients_with_each_key(npm: Npm) -> None:
    identities = [HybridIdentity.generate(), HybridIdentity.generate()]
    sealed = seal(b"for both", [identity.to_recipient() for identity in identities])
    assert [npm.decrypt(identity.encode(), sealed) for identity in identities] == [b"for both"] * 2


@pytest.mark.parametrize("length", LENGTHS)
class TestDebian:
    def test_opens_what_we_encrypt(self, debian: Debian, length: int) -> None:
        identity, plaintext = X25519Identity.generate(), os.urandom(length)
        sealed = seal(plaintext, [identity.to_recipient()])
        assert debian.decrypt(identity.encode(), sealed) == plaintext
        assert debian.decrypt(identity.encode(), armored(sealed)) == plaintext

    def test_encrypts_what_we_open(self, debian: Debian, length: int) -> None:
        identity, plaintext = X25519Identity.generate(), os.urandom(length)
        assert opened(debian.encrypt(recipient_of(identity), plaintext), identity) == plaintext
        theirs = debian.encrypt(recipient_of(identity), plaintext, "--armor")
        assert opened(ArmorReader(io.BytesIO(theirs)).read(), identity) == plaintext


def test_keys_made_by_debians_age_are_read_here(debian: Debian) -> None:
    _, comment, text = debian.keygen().splitlines()
    identity = parse_identity(text)
    assert comment == f"# public key: {recipient_of(identity)}"
    assert parse_recipient(recipient_of(identity)) == identity.to_recipient()
    assert identity.encode() == text


def test_our_armor_is_byte_for_byte_debians(debian: Debian) -> None:
    identity = X25519Identity.generate()
    theirs = debian.encrypt(recipient_of(identity), b"x" * 200, "--armor")
    assert armored(ArmorReader(io.BytesIO(theirs)).read()) == theirs
