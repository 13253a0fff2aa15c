"""Sign in, and prove again who one is: with the name and the password of a user of the instance."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace

from flask import g

from serving.access.attempts import (
    attempt_by_device,
    attempt_in_session,
    attempt_of,
    count_attempt,
    forgive,
)
from serving.access.bootstrap import BOOTSTRAP, check_unspent, digest_of, read_credential
from serving.access.context import Access, Visit
from serving.access.devices import is_known, remember
from serving.access.passwords import MAX_PASSWORD_BYTES, decoy_hash, verify_password
from serving.access.people import USER_PREFIX, person_named, person_with_id
from serving.access.sessions import Session, begin_session, note_proof
from shared.audit import AuditEntry
from shared.errors import SignInRefused, UsageError

MAX_NAME_CHARS = 255


@dataclass(frozen=True)
class SignedIn:
    """A new session and the value of its cookie, which is nowhere else.

    ``device`` is the cookie by which this browser is known the next time, where a person signed in.
    """

    session: Session
    cookie: str = field(repr=False)
    device: str | None = field(default=None, repr=False)


def sign_in(
    access: Access, username: str, password: str, visit: Visit, device: str | None = None
) -> SignedIn:
    """Begin a session for whoever knows the password; ``device`` is the browser's cookie of before.

    The answer and the time it takes are the same for a name that is unknown, a password that is
    wrong and an account that is disabled. Raises SignInRefused, TooManyAttempts, SignInBusy,
    UsageError, PostgresUnavailable.
    """
    _check_sizes(username, password)
    account = f"{USER_PREFIX}{username}"
    with access.transaction("counting a sign-in") as conn:
        now = access.clock.now()
        attempt = (
            attempt_by_device(account, device)
            if device is not None and is_known(conn, device, account, now)
            else attempt_of(account, visit.address)
        )
        count_attempt(conn, attempt, now)
    with access.transaction("looking for a user") as conn:
        person, decoy = person_named(conn, username), decoy_hash(conn, username)
    with access.gate.entered():
        right = verify_password(person, decoy, password)
    if not right or person is None:
        # Who is unknown is not written down: people type passwords into the wrong field.
        g.refused_account = person.name if person is not None else None
        raise SignInRefused("the name or the password is wrong")
    with access.transaction("signing in") as conn:
        forgive(conn, attempt, now)
        value, session = begin_session(access, conn, person, "password")
        known = remember(conn, device, account, access.clock.now())
        entry = AuditEntry(
            "session.begin", "success", person.name, "session", str(session.session_id),
            visit.source, details={"method": session.method},
        )  # fmt: skip
        access.audit.record(conn, entry, visit.correlation_id)
    return SignedIn(session, value, known)


def open_place(access: Access, token: str, visit: Visit) -> SignedIn:
    """Begin a session for whoever has the bootstrap credential of a place without users.

    Nobody guesses it, so whoever has it never waits for those who try. Raises SignInRefused, BootstrapSpent, TooManyAttempts, PostgresUnavailable, UnknownSetting.
    """
    credential = read_credential(access.bootstrap_file)
    if credential is None or not hmac.compare_digest(digest_of(token), credential.digest):
        with access.transaction("counting a sign-in") as conn:
            count_attempt(conn, attempt_of(BOOTSTRAP, visit.address), access.clock.now())
        raise SignInRefused(
            "this is not the bootstrap credential", hint="The file `bootstrap` of the state has it."
        )
    with access.transaction("signing in") as conn:
        check_unspent(conn, credential)
        value, session = begin_session(access, conn, credential, "bootstrap")
        entry = AuditEntry(
            "session.begin", "success", BOOTSTRAP, "session", str(session.session_id),
            visit.source, details={"method": session.method},
        )  # fmt: skip
        access.audit.record(conn, entry, visit.correlation_id)
    return SignedIn(session, value)


def prove(access: Access, session: Session, password: str, visit: Visit) -> Session:
    """Let the holder of a session prove again who it is; return the session with the new moment.

    Raises SignInRefused, TooManyAttempts, SignInBusy, UsageError, PostgresUnavailable.
    """
    _check_sizes(session.username, password)
    if session.user_id is None:
        raise UsageError(
            "this session has no password to prove it by",
            hint="Sign out, and in again: that proves it.",
        )
    # Its own count: whoever guesses elsewhere holds up nobody who is signed in.
    attempt = attempt_in_session(session.session_id)
    now = access.clock.now()
    with access.transaction("counting a proof") as conn:
        count_attempt(conn, attempt, now)
        person = person_with_id(conn, session.user_id)
        decoy = decoy_hash(conn, session.username)
    with access.gate.entered():
        right = verify_password(person, decoy, password)
    if not right:
        raise SignInRefused("the password is wrong")
    with access.transaction("noting a proof") as conn:
        forgive(conn, attempt, now)
        proven_at = note_proof(access, conn, session)
        entry = AuditEntry(
            "session.prove", "success", session.caller.name, "session", str(session.session_id),
            visit.source,
        )  # fmt: skip
        access.audit.record(conn, entry, visit.correlation_id)
    return replace(session, caller=replace(session.caller, proven_at=proven_at))


def _check_sizes(username: str, password: str) -> None:
    if len(username) > MAX_NAME_CHARS or len(password.encode()) > MAX_PASSWORD_BYTES:
        raise UsageError("the name or the password is longer than any can be")
    if "\x00" in username:
        raise UsageError("a name holds no NUL")
