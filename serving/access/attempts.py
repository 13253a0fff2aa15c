"""Slow down whoever guesses, without locking anybody out.

Counted is the pair of account and address, and the address alone. After some tries that are free,
each further failure of a pair waits twice as long as the one before. Another address is not
touched by that, and neither are sessions, API tokens and the operator's token. A try is counted
before it is checked: many at once are not more than one after another.

Who shares an address with a guesser is not held up by it for ever: a browser from which somebody
has signed in before is counted on its own (devices.py), and so is a session that proves again who
it is, here or at a provider. Any other way to a provider and back is counted by itself and, with
more room, under its address: each one costs a question to the provider, and anybody begins as many
as they like.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, LiteralString
from uuid import UUID

from serving.access.flow import Flow
from shared.database import Connection
from shared.errors import TooManyAttempts


@dataclass(frozen=True)
class Limit:
    """``free`` tries, then a wait that doubles from a second to ``longest_s``."""

    free: int
    longest_s: int


PAIR: Final = Limit(free=5, longest_s=15 * 60)
# Many people may stand behind one address: it waits a minute at most.
ADDRESS: Final = Limit(free=50, longest_s=60)
FORGET_AFTER: Final = timedelta(hours=1)
# Nobody guesses a code of a provider; this is how often it is asked for an address.
FLOWS: Final = Limit(free=200, longest_s=10)
MOST_ROWS: Final = 50_000

_COUNT: LiteralString = """
INSERT INTO access.attempts AS a (key, failures, last_at, blocked_until)
VALUES (%(key)s, 1, %(now)s, NULL)
ON CONFLICT (key) DO UPDATE SET
  failures = CASE WHEN a.last_at < %(forget)s THEN 1 ELSE a.failures + 1 END,
  last_at = %(now)s,
  blocked_until = CASE WHEN a.last_at >= %(forget)s AND a.failures + 1 >= %(free)s
    THEN %(now)s + make_interval(secs =>
      least(%(longest)s, power(2, least(a.failures + 1 - %(free)s, 20)))) END
WHERE a.blocked_until IS NULL OR a.blocked_until <= %(now)s
RETURNING failures
"""


@dataclass(frozen=True)
class Attempt:
    """What a try is counted under: its own key, and for a stranger the address's. No name is kept."""

    own: bytes
    address: bytes | None = None
    of_address: Limit = ADDRESS


def attempt_of(account: str, address: str | None) -> Attempt:
    """Return what a stranger's try on ``account`` from ``address`` is counted under."""
    network = _network(address or "")
    return Attempt(_key("pair", account, network), _key("address", network))


def attempt_by_device(account: str, device: str) -> Attempt:
    """Return what a try on ``account`` from a browser that it knows is counted under."""
    return Attempt(_key("device", account, device))


def attempt_in_session(session_id: UUID) -> Attempt:
    """Return what a proof by whoever is signed in already is counted under."""
    return Attempt(_key("session", str(session_id)))


def attempt_in_flow(flow: Flow, address: str | None) -> Attempt:
    """Return what one way to a provider and back is counted under.

    That is the session that it began in, or the browser if it is known, or else the flow, which one
    of the services has made, and the address.
    """
    if flow.session_id is not None:
        return Attempt(_key("flow in session", str(flow.session_id)))
    if flow.browser is not None:
        return Attempt(_key("flow of device", flow.browser.hex()))
    of_address = _key("flows of address", _network(address or ""))
    return Attempt(_key("flow", flow.value), of_address, FLOWS)


def count_attempt(conn: Connection, attempt: Attempt, now: datetime) -> None:
    """Count a try before it is checked. Raises TooManyAttempts, with the seconds to wait."""
    for key, limit in ((attempt.own, PAIR), (attempt.address, attempt.of_address)):
        if key is None:
            continue
        values = {
            "key": key, "now": now, "forget": now - FORGET_AFTER,
            "free": limit.free, "longest": limit.longest_s,
        }  # fmt: skip
        if conn.execute(_COUNT, values).fetchone() is None:
            raise TooManyAttempts(
                "there were too many tries", retry_after_s=_wait_s(conn, key, now)
            )


def forgive(conn: Connection, attempt: Attempt, counted_at: datetime) -> None:
    """Take back what a try that was right has counted at ``counted_at``: the wait that it began, too.

    What others have counted under the address stands, and so does a wait that began behind it.
    """
    conn.execute("DELETE FROM access.attempts WHERE key = %s", (attempt.own,))
    if attempt.address is not None:
        # It found no wait there; where nobody was counted since, the one that there is is its own.
        conn.execute(
            "UPDATE access.attempts SET failures = greatest(failures - 1, 0), "
            "blocked_until = CASE WHEN last_at = %s THEN NULL ELSE blocked_until END "
            "WHERE key = %s",
            (counted_at, attempt.address),
        )


def forget_attempts(conn: Connection, now: datetime) -> None:
    """Delete what is old, and of too many those that failed least, the oldest first; never a wait.

    Whoever fills the table with single tries drives out nothing that has come further.
    """
    conn.execute(
        "DELETE FROM access.attempts WHERE last_at < %s "
        "AND (blocked_until IS NULL OR blocked_until <= %s)",
        (now - FORGET_AFTER, now),
    )
    conn.execute(
        "DELETE FROM access.attempts WHERE key IN (SELECT key FROM access.attempts "
        "WHERE blocked_until IS NULL OR blocked_until <= %s "
        "ORDER BY failures DESC, last_at DESC OFFSET %s) "
        # Again: one may have begun to wait while this ran.
        "AND (blocked_until IS NULL OR blocked_until <= %s)",
        (now, MOST_ROWS, now),
    )


def _wait_s(conn: Connection, key: bytes, now: datetime) -> int:
    row = conn.execute(
        "SELECT blocked_until FROM access.attempts WHERE key = %s", (key,)
    ).fetchone()
    if row is None or row[0] is None:
        return 1
    until: datetime = row[0]
    return max(1, math.ceil((until - now).total_seconds()))


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        # Whoever has one address of a /64 has all of them.
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def _key(*parts: str) -> bytes:
    text = "\x00".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).digest()
