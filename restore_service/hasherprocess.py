"""A process that hashes rows (``restore_service.hasher``), as whoever started it sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Self

from restore_service import hasher
from shared.errors import PostgresUnavailable, RestoreFailedError


@dataclass(frozen=True)
class Answer:
    """How many rows a COPY gave, the sum of their hashes, or the hash of all of them in order."""

    rows: int
    row_sum: int = 0
    sha256: str | None = None


class Hasher:
    """One process that hashes rows: a question at a time, and its answer."""

    def __init__(self) -> None:
        # Our own modules are found as this process found them, and nowhere else.
        safe_path = ["-P"] if sys.flags.safe_path else []
        self._process = subprocess.Popen(
            [sys.executable, *safe_path, "-m", hasher.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # What is told to the service's group to stop lets the restore in hand end.
            start_new_session=True,
        )
        self._begun = False
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self.stdout = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self, session: dict[str, Any]) -> None:
        """Have it open its session, unless it did; it answers to what it is asked then."""
        if not self._begun:
            self._begun = True
            self._say(session)

    def ask(self, query: str, *, in_order: bool) -> None:
        """Ask for the digest of the rows that a COPY gives, or for the hash of all, in order."""
        self._say({hasher.QUERY: query, hasher.IN_ORDER: in_order})

    def answer(self) -> Answer:
        """Return what was asked for. Raises PostgresUnavailable, RestoreFailedError."""
        line = self.stdout.readline()
        if not line:
            raise RestoreFailedError("a process that hashes rows ended")
        answer = json.loads(line)
        if fault := answer.get(hasher.FAULT):
            what = f"PostgreSQL failed while rows were hashed ({fault})"
            raise PostgresUnavailable(what) if answer[hasher.LOST] else RestoreFailedError(what)
        row_sum = int(answer.get(hasher.SUM, "0"), 16)
        return Answer(answer[hasher.ROWS], row_sum, answer.get(hasher.SHA256))

    def _say(self, document: dict[str, Any]) -> None:
        try:
            self._stdin.write(json.dumps(document) + "\n")
            self._stdin.flush()
        except BrokenPipeError:
            # Why it ended is its answer.
            return
