"""The identity of this place that opens backups: its file is read when it is needed, and kept nowhere."""

from __future__ import annotations

from pathlib import Path

from shared.archive.age import recipient_fingerprint
from shared.archive.keyfile import KeyFile
from shared.errors import KeyMalformed
from shared.secretfiles import read_secret_file


class StandingIdentity:
    """The age identity of a standing own recipient, in a 0600 file of the place."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> KeyFile:
        """Return the identity. Raises UnknownSetting, KeyMalformed."""
        try:
            return KeyFile.parse(read_secret_file(self._file).decode("utf-8"))
        except UnicodeDecodeError:
            raise KeyMalformed(f"{self._file} is not an identity file: it is not text") from None

    def fingerprint(self) -> str:
        """Return the fingerprint of its recipient. Raises as ``read`` does."""
        return recipient_fingerprint(self.read().identity.to_recipient().encode())
