"""``python -m restore_service.hasher``: hash rows of tables in a process of its own.

One process hashes rows on one core. restore_service starts a few of these, and gives them ranges of
the tables that it loaded: on standard input a JSON document a line, first the session to open, then
a COPY each; on standard output the answers, in order. It ends with its input, that is with the
process that started it. It is given no key: it reads what PostgreSQL holds.

What it imports it imports for every restore: little.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import IO, Any, Final

import psycopg
from psycopg import sql

from shared.copyout import copy_rows
from shared.instance.digest import TableDigest, hash_in_order

DSN: Final = "dsn"
# Statements that the session begins with.
FIRST: Final = "first"
QUERY: Final = "query"
# Whether one hash over all rows is asked for, in the order in which they come.
IN_ORDER: Final = "in_order"
ROWS: Final = "rows"
SUM: Final = "sum"
SHA256: Final = "sha256"
FAULT: Final = "fault"
# Whether it is the connection that failed.
LOST: Final = "lost"

Json = dict[str, Any]


def serve(asked: IO[str], answers: IO[str]) -> None:
    """Answer until ``asked`` ends, or something failed."""
    try:
        for answer in _answers(asked):
            _say(answers, answer)
    except psycopg.Error as error:
        # The server's own message may repeat a value.
        lost = isinstance(error, psycopg.OperationalError)
        _say(answers, {FAULT: type(error).__name__, LOST: lost})


def _answers(asked: IO[str]) -> Iterator[Json]:
    session: Json = json.loads(asked.readline())
    with psycopg.connect(session[DSN], autocommit=True, connect_timeout=10) as conn:
        for statement in session[FIRST]:
            conn.execute(_statement(statement))
        for line in asked:
            asked_for = json.loads(line)
            found = copy_rows(conn, _statement(asked_for[QUERY]), alone=True)
            if asked_for[IN_ORDER]:
                rows, sha256 = hash_in_order(found)
                yield {ROWS: rows, SHA256: sha256}
            else:
                digest = TableDigest()
                digest.add_all(found)
                yield {ROWS: digest.rows, SUM: format(digest.row_sum, "x")}


def _statement(text: Any) -> sql.Composed:
    """Return what restore_service wrote, from the catalogue, as what psycopg takes."""
    return sql.Composed([sql.SQL(text)])


def _say(answers: IO[str], answer: Json) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
