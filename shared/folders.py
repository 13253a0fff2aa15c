"""Folders that settings name: made, and looked at before anything relies on them."""

from __future__ import annotations

import os
from pathlib import Path

from shared.errors import UnknownSetting


def prepare_folder(folder: Path, *, writable: bool = True) -> Path:
    """Make ``folder`` (0700) where it is missing, and check that it can be used; return it.

    Raises UnknownSetting, with what to write instead.
    """
    hint = f"Name a folder that the user {os.geteuid()} may use, or give it to that user."
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnknownSetting(f"the folder {folder} cannot be made: {error}", hint=hint) from error
    if not os.access(folder, os.R_OK | os.X_OK | (os.W_OK if writable else 0)):
        doing = "written" if writable else "read"
        raise UnknownSetting(f"the folder {folder} cannot be {doing}", hint=hint)
    return folder
