"""FORMAT.md says what the code does: its numbers, its codes, its types, its names."""

from __future__ import annotations

import ast
import re
from dataclasses import asdict
from pathlib import Path

from shared import errors
from shared.archive import keyfile, manifest, members, values
from shared.archive.age import header, hybrid, stream, x25519
from shared.archive.limits import DEFAULT_LIMITS
from shared.archive.parts import BLOCK_LEAST_BYTES, SPARE_BLOCKS
from shared.instance import keyring

ARCHIVE = Path(__file__).parents[3] / "shared" / "archive"
PAGE = (ARCHIVE / "FORMAT.md").read_text(encoding="utf-8")
SIZES = {
    "file key": header.FILE_KEY_BYTES,
    "payload nonce": stream.NONCE_BYTES,
    "payload chunk, plain": stream.CHUNK_BYTES,
    "authentication tag": stream.TAG_BYTES,
    "header MAC": header.MAC_BYTES,
    "X25519 key": x25519.KEY_BYTES,
    "mlkem768x25519 seed": hybrid.SEED_BYTES,
    "mlkem768x25519 recipient": hybrid.PUBLIC_BYTES,
    "mlkem768x25519 enc": hybrid.ENC_BYTES,
    "stanza body": hybrid.BODY_BYTES,
    "tar block": members.BLOCK_BYTES,
    "largest member": members.MAX_MEMBER_BYTES,
    "manifest signature": manifest.SIGNATURE_BYTES,
    "data key": keyring.KEY_BYTES,
    "check value": keyring.CHECK_VALUE_BYTES,
}
# What a restore says of an archive; the rest of the codes come from shared/archive itself.
OF_A_RESTORE = {"archive.another_instance", "archive.schema_too_new"}
# Of whoever asks for a backup, not of whoever reads one.
NO_CODE_OF_THE_FORMAT = {
    "usage.invalid", "settings.invalid", "recipient.invalid", "recipient.mixed",
}  # fmt: skip


def section(title: str) -> str:
    found = re.search(rf"^## (?:\d+\. )?{title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def numbers(title: str) -> dict[str, int]:
    rows = re.findall(r"^\| `?([^|`]+?)`? \| ([\d,]+) \|", section(title), re.MULTILINE)
    return {name: int(value.replace(",", "")) for name, value in rows}


def test_every_limit_stands_in_the_page_with_its_number() -> None:
    assert numbers("Limits") == asdict(DEFAULT_LIMITS)
    assert f"at most {keyfile.MAX_KEY_FILE_BYTES:,} bytes" in section("Limits")
    blocks = (
        f"one block for each {BLOCK_LEAST_BYTES:,} bytes of its content, and {SPARE_BLOCKS} more"
    )
    assert blocks in section("Parts")


def test_every_size_is_that_of_the_code() -> None:
    assert numbers("Sizes") == SIZES
    limits = (DEFAULT_LIMITS.header_bytes, DEFAULT_LIMITS.header_stanzas)
    assert limits == (header.MAX_HEADER_BYTES, header.MAX_STANZAS)


def test_every_code_that_the_archive_raises_stands_in_the_page_and_no_other() -> None:
    raised: set[str] = set()
    for file in ARCHIVE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "shared.errors":
                raised |= {getattr(errors, name.name).code for name in node.names}
    raised -= NO_CODE_OF_THE_FORMAT | {errors.SecrynError.code}
    listed = re.findall(r"^\| `([a-z._]+)` \|", section("Errors"), re.MULTILINE)
    assert set(listed) == raised | OF_A_RESTORE
    mentioned = set(re.findall(r"`((?:archive|key)\.[a-z_]+)`", PAGE))
    assert mentioned <= set(listed)


def test_every_field_of_the_documents_stands_in_the_page() -> None:
    for title, model in (
        ("backup.json", manifest.BackupHeader),
        ("manifest.json and manifest.sig", manifest.Manifest),
    ):
        rows = re.findall(r"^\| (`[^|]+) \|", section(title), re.MULTILINE)
        assert re.findall(r"`([a-z_]+)`", " ".join(rows)) == list(model.model_fields)


def test_every_type_that_is_decoded_stands_in_the_page() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| .*\|$", section("Parts"), re.MULTILINE)
    assert sorted(re.findall(r"`([a-z ]+)`", " ".join(rows))) == sorted(values.DECODERS)


def test_every_label_of_a_key_file_stands_in_the_page_in_its_order() -> None:
    assert re.findall(r"^# ([a-z0-9]+): ", section("The key file"), re.MULTILINE) == list(
        keyfile.LABELS.values()
    )


def test_names_and_domains_are_those_of_the_code() -> None:
    for text in (members.BACKUP_JSON, members.SCHEMA_SQL, members.MANIFEST_JSON):
        assert f"`{text}`" in PAGE
    assert f'"{manifest.SIGNATURE_DOMAIN[:-1].decode()}\\0"' in PAGE
    assert manifest.FORMAT_VERSION == 1
