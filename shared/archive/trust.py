"""Whether an archive's signer is to be trusted (design: a matching instance id alone is no trust)."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from shared.archive.keyfile import KeyFile
from shared.archive.manifest import Manifest
from shared.errors import ArchiveAltered, SignerUntrusted, UnknownSetting
from shared.messages.keys import PublicKey


class _Signer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    public_key: str


TrustedBy = Literal["signer", "key_file", "caller"]


def check_trust(
    manifest: Manifest,
    sha256: str,
    key_file: KeyFile,
    signers: Collection[str],
    trust_signer: str | None,
) -> TrustedBy:
    """Return why the archive is trusted.

    ``signers`` are the fingerprints of this place's and of registered signers; ``sha256`` is
    that of the whole object as it was read.

    Raises ArchiveAltered when the key file names another object, SignerUntrusted.
    """
    if key_file.sha256 is not None and key_file.sha256 != sha256:
        raise ArchiveAltered("the file is not the one that the key file was written for")
    if manifest.signer in signers:
        return "signer"
    if trust_signer is not None:
        if trust_signer == manifest.signer:
            return "caller"
        raise SignerUntrusted(f"the archive is signed by {manifest.signer}, not by {trust_signer}")
    named = (
        key_file.sha256 is not None
        and key_file.signer == manifest.signer
        and key_file.backup_id == str(manifest.backup.backup_id)
        and key_file.instance_id == str(manifest.backup.instance_id)
    )
    if named:
        return "key_file"
    raise SignerUntrusted(f"the signer {manifest.signer} is not known here")


def load_signers(path: Path) -> frozenset[str]:
    """Return the fingerprints of the signers that a TOML file lists by name.

    Raises UnknownSetting when it cannot be read as ``[name]`` with a ``public_key`` in hex.
    """
    try:
        with path.open("rb") as file:
            found = TypeAdapter(dict[str, _Signer]).validate_python(tomllib.load(file))
        return frozenset(
            PublicKey.from_hex(signer.public_key).fingerprint for signer in found.values()
        )
    except (OSError, ValueError, ValidationError) as error:
        raise UnknownSetting(f"the list of trusted signers {path} cannot be read") from error
