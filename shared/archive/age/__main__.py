"""``python -m shared.archive.age``: keygen, encrypt, decrypt, as the `age` tool does them."""

from __future__ import annotations

import argparse
import io
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from shared.archive.age import (
    DecryptReader,
    EncryptWriter,
    HybridIdentity,
    Identity,
    Passphrase,
    X25519Identity,
    parse_identity,
    parse_recipient,
)
from shared.archive.age.armor import BEGIN, ArmorReader, ArmorWriter
from shared.errors import KeyMalformed, SecrynError
from shared.secretfiles import write_secret_file

COPY_BYTES = 1 << 20


def keygen(arguments: argparse.Namespace) -> None:
    """Write a new identity with its recipient in a comment."""
    identity: Identity = (
        X25519Identity.generate() if arguments.x25519 else HybridIdentity.generate()
    )
    recipient = identity.to_recipient().encode()
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = f"# created: {created}\n# public key: {recipient}\n{identity.encode()}\n"
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        write_secret_file(arguments.output, text.encode())
        sys.stderr.write(f"Public key: {recipient}\n")


def encrypt(arguments: argparse.Namespace, source: BinaryIO, sink: BinaryIO) -> None:
    """Encrypt standard input to the named recipients."""
    recipients = [parse_recipient(text) for text in arguments.recipient]
    armor = ArmorWriter(sink) if arguments.armor else None
    writer = EncryptWriter(armor or sink, recipients)
    while data := source.read(COPY_BYTES):
        writer.write(data)
    writer.close()
    if armor is not None:
        armor.close()
    sink.flush()


def decrypt(arguments: argparse.Namespace, source: io.BufferedReader[Any], sink: BinaryIO) -> None:
    """Decrypt standard input; armor is recognised by itself."""
    identities: list[Identity] = []
    for path in arguments.identity or ():
        identities += read_identities(path)
    if arguments.passphrase_file is not None:
        identities.append(Passphrase(arguments.passphrase_file.read_bytes().rstrip(b"\r\n")))
    armored = source.peek(len(BEGIN)).lstrip()[: len(BEGIN)] == BEGIN
    reader = DecryptReader(
        ArmorReader(source) if armored else source,
        identities,
        allow_scrypt=arguments.passphrase_file is not None,
    )
    while data := reader.read(COPY_BYTES):
        sink.write(data)
    sink.flush()


def read_identities(path: Path) -> list[Identity]:
    """Return the identities in a file of them; ``#`` begins a comment. Raises KeyMalformed."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise KeyMalformed(f"{path} is not a text file of identities") from None
    found = [parse_identity(line) for line in lines if line.strip() and not line.startswith("#")]
    if not found:
        raise KeyMalformed(f"{path} holds no identity")
    return found


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m shared.archive.age")
    commands = parser.add_subparsers(dest="command", required=True)
    generating = commands.add_parser("keygen", help=keygen.__doc__)
    generating.add_argument("--x25519", action="store_true", help="X25519 instead of post-quantum")
    generating.add_argument("-o", dest="output", type=Path, metavar="FILE")
    encrypting = commands.add_parser("encrypt", help=encrypt.__doc__)
    encrypting.add_argument("-r", dest="recipient", action="append", required=True)
    encrypting.add_argument("--armor", action="store_true")
    decrypting = commands.add_parser("decrypt", help=decrypt.__doc__)
    key = decrypting.add_mutually_exclusive_group(required=True)
    key.add_argument("-i", dest="identity", action="append", type=Path, metavar="KEYFILE")
    key.add_argument("--passphrase-file", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    try:
        if arguments.command == "keygen":
            keygen(arguments)
        elif arguments.command == "encrypt":
            encrypt(arguments, sys.stdin.buffer, sys.stdout.buffer)
        else:
            stdin = io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False))
            decrypt(arguments, stdin, sys.stdout.buffer)
    except SecrynError as error:
        sys.stderr.write(f"age: {error.message} [{error.code}]\n  {error.advice}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"age: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
