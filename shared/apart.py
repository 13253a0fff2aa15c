"""Where keys must not lie: with what they open, whoever copies one has both."""

from __future__ import annotations

from pathlib import Path

# What stands in every PostgreSQL data folder.
_DATABASE_MARK = "PG_VERSION"


def beside_what(keys: Path, storage: Path) -> str | None:
    """Return beside what ``keys``, a folder or a file, lies, or None: the backups, or a database.

    Links are followed, and one folder that is mounted at two places is one.
    """
    keys, storage = keys.resolve(), storage.resolve()
    if _within(keys, storage) or _within(storage, keys):
        return "the backups"
    if any((folder / _DATABASE_MARK).exists() for folder in (keys, *keys.parents)):
        return "the files of a PostgreSQL database"
    return None


def _within(inner: Path, outer: Path) -> bool:
    """Tell whether ``inner`` is ``outer`` or lies in it; either may not exist yet."""
    return any(
        folder == outer or (folder.exists() and outer.exists() and folder.samefile(outer))
        for folder in (inner, *inner.parents)
    )
