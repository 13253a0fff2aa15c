"""The one-time key in a browser: its cookie and its user are the recipient, for ten minutes at most.

A cookie of that one page carries a random value; from it, the user and the backup's id the
recipient's identity is derived for each request. So the service keeps nothing that opens the key,
the browser keeps nothing that opens it without the service, and a reload shows it again, from any
replica and in a later session of the same user, until "I have stored it".

The browser has the cookie before anything is taken: whatever becomes of the answer, or of a second
click, the same request is made again, and gets the same key.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from backup_service.api.routes import parse_backup_id
from backup_service.context import BackupContext
from backup_service.handlers.confirm_stored import KeyStored, confirm_stored
from backup_service.handlers.view_key import ViewKey, repeat_viewing, view_key
from backup_service.web.words import KEYS
from serving.access import current_session
from serving.caller import current_caller, requires
from serving.requester import http_requester
from serving.web.frame import Frame
from shared.archive.age import HybridIdentity, open_sealed
from shared.archive.keyfile import MAX_KEY_FILE_BYTES
from shared.database import postgres_faults
from shared.errors import NotFoundError

COOKIE: Final = "secryn-viewing"
_VALUE_BYTES: Final = 32
_LABEL: Final = b"secryn viewing v2"
# Why a form led back to the page of the key, and nothing was done.
NO_COOKIE: Final = "cookie"
NO_TICK: Final = "tick"


@dataclass(frozen=True)
class Viewing:
    """The one-time recipient that a viewing is, and the id of its request."""

    identity: HybridIdentity
    request_id: UUID

    def command(self) -> ViewKey:
        """Return what asks for the key: the first time and each time again, the same."""
        recipient = self.identity.to_recipient().encode()
        return ViewKey(request_id=self.request_id, recipient=recipient)

    def open(self, sealed: bytes) -> str:
        """Return the key file."""
        return open_sealed(sealed, [self.identity], MAX_KEY_FILE_BYTES).decode("utf-8")


@dataclass(frozen=True)
class ShownKey:
    """A key file, and until when it is shown."""

    text: str
    until: datetime
    left_s: int

    @property
    def comments(self) -> list[str]:
        """Return what it belongs to, a line each."""
        return [line for line in self.text.splitlines() if line.startswith("#")]

    @property
    def secret(self) -> str:
        """Return the line that opens the backup."""
        lines = self.text.splitlines()
        return next((line for line in lines if line and not line.startswith("#")), "")


def viewing_of(value: str, backup_id: str, user: str) -> Viewing:
    """Derive the recipient of a cookie's value, for one backup and one user."""
    info = b"\0".join((_LABEL, backup_id.encode("ascii"), user.encode("utf-8")))
    derived = HKDF(SHA256(), 48, salt=None, info=info).derive(value.encode("utf-8"))
    return Viewing(HybridIdentity(derived[:32]), UUID(bytes=derived[32:], version=4))


def add_key_pages(pages: Blueprint, context: BackupContext, frame: Frame) -> None:
    """Add the pages of one backup's key to ``pages``."""
    window_s = context.settings.keys.repeat_window_s
    # No form is sent later than its session allows, and from then on the window counts.
    cookie_s = context.settings.access.absolute_s + window_s

    def path_of(backup_id: str) -> str:
        return f"{frame.prefix}/backups/{backup_id}/key"

    def led_back(backup_id: str, because: str) -> BaseResponse:
        return redirect(f"{path_of(backup_id)}?because={because}", 303)

    def keep(response: BaseResponse, backup_id: str, value: str, age_s: int) -> None:
        response.set_cookie(
            COOKIE,
            value,
            max_age=age_s,
            path=path_of(backup_id),
            secure=request.is_secure,
            httponly=True,
            samesite="Strict",
        )

    @pages.get("/backups/<backup_id>/key")
    @requires("view_key")
    def key(backup_id: str) -> Response:
        backup_id = parse_backup_id(backup_id)
        with postgres_faults("reading the history"), context.pool.connection() as conn:
            backup = context.history.get(conn, backup_id)
        shown = _shown(context, backup_id) if backup["key_state"] == "viewed" else None
        response = make_response(
            render_template(
                "backups/key.html",
                backup=backup,
                shown=shown,
                because=request.args.get("because"),
                keys=KEYS,
                path=path_of(backup_id),
            )
        )
        if backup["key_state"] == "waiting":
            keep(response, backup_id, _cookie() or secrets.token_urlsafe(_VALUE_BYTES), cookie_s)
        return response

    @pages.post("/backups/<backup_id>/key")
    @requires("view_key")
    def take(backup_id: str) -> BaseResponse:
        backup_id = parse_backup_id(backup_id)
        value, requester = _cookie(), http_requester()
        if value is None:
            # Whoever could not ask for it again is given nothing. Who it is comes first, as ever.
            requester.require_proof(context.clock.now(), context.settings.access.proof_max_age_s)
            return led_back(backup_id, NO_COOKIE)
        view_key(context, backup_id, viewing_of(value, backup_id, _user()).command(), requester)
        response = redirect(path_of(backup_id), 303)
        keep(response, backup_id, value, window_s)
        return response

    @pages.post("/backups/<backup_id>/key/file")
    @requires("view_key")
    def save(backup_id: str) -> Response:
        backup_id = parse_backup_id(backup_id)
        shown = _shown(context, backup_id)
        if shown is None:
            raise NotFoundError("this browser does not see the key any more")
        return Response(
            shown.text,
            content_type="text/plain; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{backup_id}.key"'},
        )

    @pages.post("/backups/<backup_id>/key/stored")
    @requires("view_key")
    def stored(backup_id: str) -> BaseResponse:
        backup_id = parse_backup_id(backup_id)
        if request.form.get("stored") != "on":
            return led_back(backup_id, NO_TICK)
        value = _cookie()
        if value is not None:
            command = KeyStored(request_id=viewing_of(value, backup_id, _user()).request_id)
            confirm_stored(context, backup_id, command, http_requester())
        response = redirect(f"{frame.prefix}/backups/{backup_id}", 303)
        response.delete_cookie(COOKIE, path=path_of(backup_id), httponly=True, samesite="Strict")
        return response


def _shown(context: BackupContext, backup_id: str) -> ShownKey | None:
    """Return the key file, as long as this browser may see it again; None afterwards."""
    value = _cookie()
    if value is None:
        return None
    viewing = viewing_of(value, backup_id, _user())
    found = repeat_viewing(context, backup_id, viewing.command(), http_requester())
    if found is None:
        return None
    until = found.repeat_until.astimezone(UTC)
    left = (until - context.clock.now()).total_seconds()
    return ShownKey(viewing.open(found.sealed), until, max(1, math.ceil(left)))


def _cookie() -> str | None:
    """Return the value that this browser keeps for the page, or None."""
    return request.cookies.get(COOKIE) or None


def _user() -> str:
    """Return who looks: in every session of a user the same. Who has a token is its name."""
    session = current_session()
    known = session.user_id if session is not None else None
    return str(known) if known is not None else current_caller().name
