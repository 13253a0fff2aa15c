"""Own recipients: who may open a backup instead of whoever views a one-time key.

Naming one is reading everything in the backup: `Requester.may_name` says who may. Events, history and status show recipients by
fingerprint; the text that a backup is encrypted to stands in a table of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from shared.archive.age import Recipient, check_mixing, parse_recipient, recipient_fingerprint
from shared.archive.age.header import FILE_KEY_BYTES
from shared.database import Connection
from shared.errors import ConflictError, RecipientInvalid

MOST_NAMED = 16

_SCHEMA = """
CREATE TABLE IF NOT EXISTS backup.named_recipients (
    fingerprint text PRIMARY KEY,
    recipient text NOT NULL
);
"""


def parse_recipients(texts: Sequence[str]) -> tuple[str, ...]:
    """Return age recipients (X25519 or post-quantum) in their one form, each of them once.

    Raises RecipientInvalid for one that is damaged, of another kind, or that nothing can be
    encrypted to; RecipientsMixed for post-quantum ones beside others.
    """
    found = {recipient.encode(): recipient for recipient in map(_usable, texts)}
    if found:
        check_mixing(list(found.values()))
    return tuple(found)


def _usable(text: str) -> Recipient:
    recipient = parse_recipient(text)
    try:
        # A point of low order is well written, and would be found out when a backup is made.
        recipient.wrap(os.urandom(FILE_KEY_BYTES))
    except ValueError:
        raise RecipientInvalid(
            f"nothing can be encrypted to the recipient {text.strip()[:24]!r}..."
        ) from None
    return recipient


class NamedRecipients:
    """The recipients that backups of this place name, by fingerprint."""

    def migrate(self, conn: Connection) -> None:
        """Make the table where it is missing."""
        conn.execute(_SCHEMA)

    def remember(self, conn: Connection, recipients: Sequence[str]) -> list[str]:
        """Keep recipients, in the caller's transaction; return their fingerprints in order."""
        named = [(recipient_fingerprint(recipient), recipient) for recipient in recipients]
        with conn.cursor() as cursor:
            # In one order, whoever asks: two that name the same ones do not wait for each other.
            cursor.executemany(
                "INSERT INTO backup.named_recipients VALUES (%s, %s) ON CONFLICT DO NOTHING",
                sorted(named),
            )
        return [fingerprint for fingerprint, _ in named]

    def of(self, conn: Connection, fingerprints: Sequence[str]) -> list[Recipient]:
        """Return the recipients with ``fingerprints``. Raises ConflictError when one is not theirs."""
        rows = conn.execute(
            "SELECT fingerprint, recipient FROM backup.named_recipients WHERE fingerprint = ANY(%s)",
            (list(fingerprints),),
        ).fetchall()
        texts: dict[str, str] = dict(rows)
        for fingerprint in fingerprints:
            # Whoever can write this table must not be able to read the backups.
            text = texts.get(fingerprint)
            if text is None or recipient_fingerprint(text) != fingerprint:
                raise ConflictError(f"the recipient {fingerprint} is not known here any more")
        return [parse_recipient(texts[fingerprint]) for fingerprint in fingerprints]
