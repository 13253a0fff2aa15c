"""Open one secret of the running instance, as a platform service would."""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.instance.opener import OpenedSecret


@dataclass(frozen=True)
class ShownSecret:
    """A secret for a person or a program; the value is in no repr."""

    opened: OpenedSecret = field(repr=False)

    @property
    def value(self) -> bytes:
        """Return the value in the clear."""
        return self.opened.value

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form: ``value`` is text, or base64 where ``encoding`` says so."""
        opened = self.opened
        try:
            value, encoding = opened.value.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            value, encoding = base64.b64encode(opened.value).decode("ascii"), "base64"
        return {
            "path": opened.path,
            "version": opened.version,
            "kind": opened.kind,
            "labels": opened.labels,
            "created_at": opened.created_at.isoformat(),
            "created_by": opened.created_by,
            "epoch": opened.epoch,
            "encoding": encoding,
            "value": value,
        }


def open_secret(state: Path, path: str, version: int | None) -> ShownSecret:
    """Open PROJECT/VAULT/SECRET of the stack in ``state``, at ``version`` or the present one.

    Raises SecretNotFound, KeyringError, StackNotRunning, PostgresUnavailable.
    """
    from cli.platform import platform

    with platform(state) as parts:
        return ShownSecret(parts.writer.open_secret(path, version))


def write_value(value: bytes) -> None:
    """Write the value to standard output exactly as it is; on a terminal a line end follows."""
    sys.stdout.flush()
    sys.stdout.buffer.write(value)
    if sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
