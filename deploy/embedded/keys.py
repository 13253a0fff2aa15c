"""The keys of a place: made once, never replaced, never in a backup."""

from __future__ import annotations

import secrets

from deploy.embedded.folder import StateFolder
from shared.secretfiles import write_secret_file

ROOT_KEY_BYTES = 32


def ensure_keys(state: StateFolder) -> None:
    """Make every key that is not there yet."""
    if not state.key("root.key").exists():
        write_secret_file(state.key("root.key"), secrets.token_bytes(ROOT_KEY_BYTES).hex().encode())
