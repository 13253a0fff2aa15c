"""Browsers from which somebody has signed in before: a guesser at the same address is none of them.

After a sign-in, by password or by a provider, the browser keeps a cookie of 32 random bytes (OWASP:
device cookies). It opens nothing: a try on that account from that browser is counted on its own, and
not under an address that others share; so is a way to a provider and back, on which nobody has said
yet who it is. The table holds the SHA-256 of the cookie and of the account's name; it belongs to the
place, and a restore changes none of it.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Final

from shared.database import Connection

DEVICE: Final = "device"
DEVICE_BYTES: Final = 32
# Since the last sign-in.
KEPT: Final = timedelta(days=90)
# Of one account; the oldest goes first.
MOST: Final = 50


def is_known(conn: Connection, device: str | None, account: str, now: datetime) -> bool:
    """Tell whether somebody has signed in to ``account`` with that cookie."""
    if device is None:
        return False
    row = conn.execute(
        "SELECT 1 FROM access.devices WHERE digest = %s AND account = %s AND used_at > %s",
        (_digest(device), _digest(account), now - KEPT),
    ).fetchone()
    return row is not None


def known_browser(conn: Connection, device: str, now: datetime) -> bytes | None:
    """Return the digest of a cookie with which anybody has signed in, None for any other."""
    row = conn.execute(
        "SELECT digest FROM access.devices WHERE digest = %s AND used_at > %s LIMIT 1",
        (_digest(device), now - KEPT),
    ).fetchone()
    return None if row is None else bytes(row[0])


def remember(conn: Connection, device: str | bytes | None, account: str, now: datetime) -> str:
    """Note a sign-in to ``account``; return the browser's new cookie.

    ``device`` is the one that it had, or its digest, where the cookie itself has not come along.

    It is another one each time, so that nobody can have put it there; whoever else signs in with
    this browser stays known by the new one.
    """
    new = secrets.token_urlsafe(DEVICE_BYTES)
    if device is not None:
        before = device if isinstance(device, bytes) else _digest(device)
        conn.execute(
            "UPDATE access.devices SET digest = %s WHERE digest = %s", (_digest(new), before)
        )
    conn.execute(
        "INSERT INTO access.devices (digest, account, used_at) VALUES (%s, %s, %s) "
        "ON CONFLICT (digest, account) DO UPDATE SET used_at = EXCLUDED.used_at",
        (_digest(new), _digest(account), now),
    )
    conn.execute(
        "DELETE FROM access.devices WHERE account = %s AND digest IN (SELECT digest FROM "
        "access.devices WHERE account = %s ORDER BY used_at DESC, digest OFFSET %s)",
        (_digest(account), _digest(account), MOST),
    )
    return new


def forget_devices(conn: Connection, now: datetime) -> None:
    """Delete what nobody has signed in with for a long time."""
    conn.execute("DELETE FROM access.devices WHERE used_at <= %s", (now - KEPT,))


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
