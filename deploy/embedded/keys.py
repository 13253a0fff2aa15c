"""The keys of a place: made once, never replaced, never in a backup."""

from __future__ import annotations

import secrets
from typing import Any

import tomli_w

from deploy.embedded.folder import StateFolder
from shared.messages.keys import SigningKey
from shared.secretfiles import write_secret_file

ROOT_KEY_BYTES = 32
OPERATOR = "operator"
BACKUP_SERVICE, RESTORE_SERVICE = "backup_service", "restore_service"
OPERATOR_PERMISSIONS = (
    "create", "download", "view_key", "restore", "approve", "configure", "hold", "delete",
    "read_audit", "read",
)  # fmt: skip
BACKUP_KEY, RESTORE_KEY, ISSUER_KEY = "backup-signing.key", "restore-signing.key", "issuer.key"


def ensure_keys(state: StateFolder) -> None:
    """Make every key that is not there yet, and the two lists of whom this place believes.

    A list that is there is the operator's: it is left as it is.
    """
    root_key = state.key("root.key")
    if not root_key.exists():
        write_secret_file(root_key, secrets.token_bytes(ROOT_KEY_BYTES).hex().encode("ascii"))
    made = {name: _signing_key(state, name) for name in (BACKUP_KEY, RESTORE_KEY, ISSUER_KEY)}
    lists = [state.key("issuers.toml"), state.key("trusted-signers.toml")]
    if all(path.exists() for path in lists):
        return
    from shared.instance.reading import ANNOUNCE, ANNOUNCE_ADOPTION
    from shared.messages.between import CANCEL_PERMISSION

    issuers: dict[str, Any] = {
        OPERATOR: {
            "public_key": made[ISSUER_KEY].public.raw.hex(),
            "permissions": list(OPERATOR_PERMISSIONS),
        },
        BACKUP_SERVICE: {
            "public_key": made[BACKUP_KEY].public.raw.hex(),
            "permissions": [ANNOUNCE_ADOPTION],
        },
        RESTORE_SERVICE: {
            "public_key": made[RESTORE_KEY].public.raw.hex(),
            "permissions": [ANNOUNCE, CANCEL_PERMISSION],
        },
    }
    signers: dict[str, Any] = {"this-place": {"public_key": made[BACKUP_KEY].public.raw.hex()}}
    for path, document in zip(lists, (issuers, signers), strict=True):
        if not path.exists():
            write_secret_file(path, tomli_w.dumps(document).encode())


def _signing_key(state: StateFolder, name: str) -> SigningKey:
    path = state.key(name)
    return SigningKey.load(path) if path.exists() else SigningKey.create(path)
