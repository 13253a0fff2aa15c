"""The key file: the one-time identity, and comment lines that say what it belongs to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.archive.age import Identity, parse_identity
from shared.archive.reader import open_archive
from shared.errors import ArchiveAltered, KeyMalformed, UsageError

MAX_KEY_FILE_BYTES = 64 * 1024
LABELS = {
    "backup_id": "backup",
    "instance_id": "instance",
    "environment": "environment",
    "created_at": "created",
    "sha256": "sha256",
    "signer": "signer",
}
_TITLE = "# Secryn backup key. It opens exactly one backup; keep it apart from the file."


@dataclass(frozen=True)
class KeyFile:
    """A key, and what its comment lines say; a bare key has none of them."""

    identity: Identity = field(repr=False)
    backup_id: str | None = None
    instance_id: str | None = None
    environment: str | None = None
    created_at: str | None = None
    sha256: str | None = None
    signer: str | None = None

    def render(self) -> str:
        """Return the text of the key file: a secret. A value stands on one line, whatever it is."""
        lines = [_TITLE]
        for name, label in LABELS.items():
            value = getattr(self, name)
            if value is not None:
                lines.append(f"# {label}: {' '.join(value.split())}")
        return "\n".join([*lines, self.identity.encode(), ""])

    @classmethod
    def parse(cls, text: str) -> KeyFile:
        """Read a key file or a bare key. Raises KeyMalformed; no message holds the key."""
        if len(text.encode("utf-8", "replace")) > MAX_KEY_FILE_BYTES:
            raise KeyMalformed("the key file is too long to be one")
        labels = {label: name for name, label in LABELS.items()}
        comments: dict[str, str] = {}
        keys: list[str] = []
        for line in text.split("\n"):
            if line.startswith("#"):
                label, _, value = line[1:].strip().partition(": ")
                if labels.get(label) in comments:
                    raise KeyMalformed(f"the key file says twice what its {label} is")
                if label in labels:
                    comments[labels[label]] = value.strip()
            elif line.strip():
                keys.append(line.strip())
        if len(keys) != 1:
            raise KeyMalformed(f"the key file holds {len(keys)} keys, it must hold one")
        return cls(parse_identity(keys[0]), **comments)


def read_key_file(path: Path) -> KeyFile:
    """Read the key file at ``path``. Raises UsageError, KeyMalformed."""
    try:
        with path.open("rb") as file:
            return KeyFile.parse(file.read(MAX_KEY_FILE_BYTES + 1).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"the key file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise KeyMalformed(f"{path} is not a key file: it is not text") from None


def check_key_file(key_path: Path, archive_path: Path) -> dict[str, Any]:
    """Tell, offline, whether a key file opens an archive; return what both say of themselves.

    Raises WrongKeyOrHeader when it does not, ArchiveAltered when it does but the file is not
    the one that the key was made for.
    """
    key = read_key_file(key_path)
    digest = hashlib.sha256()
    try:
        with archive_path.open("rb") as source:
            header = open_archive(source, [key.identity]).header
        with archive_path.open("rb") as source:
            while data := source.read(1 << 20):
                digest.update(data)
    except OSError as error:
        raise UsageError(f"{archive_path} cannot be read: {error.strerror}") from error
    if key.sha256 is not None and key.sha256 != digest.hexdigest():
        raise ArchiveAltered("the key opens the file, but the file is not as it was stored")
    return {
        "belong_together": True,
        "backup_id": str(header.backup_id),
        "instance_id": str(header.instance_id),
        "environment": header.environment,
        "sha256": digest.hexdigest(),
        "sha256_checked": key.sha256 is not None,
    }
