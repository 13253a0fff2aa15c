"""The one-time key in a browser: the viewing session is the recipient, for ten minutes at most.

A cookie of that one page carries a random value; from it, the session and the backup's id
the recipient's identity is derived for each request. So the service keeps nothing that opens the
key, the browser keeps nothing that opens it without the service, and a reload in the same session
shows it again, from any replica, until "I have stored it".
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from backup_service.api.routes import parse_backup_id
from backup_service.context import BackupContext
from backup_service.handlers.confirm_stored import KeyStored, confirm_stored
from backup_service.handlers.view_key import ViewKey, view_key
from backup_service.web.words import KEYS
from serving.access import current_session
from serving.caller import current_caller, requires
from serving.requester import http_requester
from serving.web.frame import Frame
from shared.archive.age import HybridIdentity, open_sealed
from shared.archive.keyfile import MAX_KEY_FILE_BYTES
from shared.database import postgres_faults
from shared.errors import KeyAlreadyViewed, NotFoundError

COOKIE: Final = "secryn-viewing"
_VALUE_BYTES: Final = 32
_LABEL: Final = b"secryn viewing v1"


@dataclass(frozen=True)
class Viewing:
    """The one-time recipient that a viewing session is, and the id of its request."""

    identity: HybridIdentity
    request_id: UUID


def viewing_of(value: str, backup_id: str, session: str) -> Viewing:
    """Derive the recipient of a cookie's value, for one backup and one session."""
    info = b"\0".join((_LABEL, backup_id.encode("ascii"), session.encode("utf-8")))
    derived = HKDF(SHA256(), 48, salt=None, info=info).derive(value.encode("utf-8"))
    return Viewing(HybridIdentity(derived[:32]), UUID(bytes=derived[32:], version=4))


def add_key_pages(pages: Blueprint, context: BackupContext, frame: Frame) -> None:
    """Add the pages of one backup's key to ``pages``."""
    window_s = context.settings.keys.repeat_window_s

    def path_of(backup_id: str) -> str:
        return f"{frame.prefix}/backups/{backup_id}/key"

    def shown(backup_id: str) -> str | None:
        """Return the key file, as long as this session may see it again; None afterwards."""
        value = request.cookies.get(COOKIE)
        if value is None:
            return None
        try:
            return _take(context, backup_id, value)
        except KeyAlreadyViewed:
            return None

    @pages.get("/backups/<backup_id>/key")
    @requires("view_key")
    def key(backup_id: str) -> Response:
        backup_id = parse_backup_id(backup_id)
        with postgres_faults("reading the history"), context.pool.connection() as conn:
            backup = context.history.get(conn, backup_id)
        text = shown(backup_id) if backup["key_state"] == "viewed" else None
        lines = (text or "").splitlines()
        return make_response(
            render_template(
                "backups/key.html",
                backup=backup,
                key_file=text,
                comments=[line for line in lines if line.startswith("#")],
                secret=next((line for line in lines if line and not line.startswith("#")), ""),
                window_s=window_s,
                keys=KEYS,
            )
        )

    @pages.post("/backups/<backup_id>/key")
    @requires("view_key")
    def take(backup_id: str) -> BaseResponse:
        backup_id = parse_backup_id(backup_id)
        value = request.cookies.get(COOKIE) or secrets.token_urlsafe(_VALUE_BYTES)
        _take(context, backup_id, value)
        response = redirect(path_of(backup_id), 303)
        response.set_cookie(
            COOKIE,
            value,
            max_age=window_s,
            path=path_of(backup_id),
            secure=request.is_secure,
            httponly=True,
            samesite="Strict",
        )
        return response

    @pages.post("/backups/<backup_id>/key/file")
    @requires("view_key")
    def save(backup_id: str) -> Response:
        backup_id = parse_backup_id(backup_id)
        text = shown(backup_id)
        if text is None:
            raise NotFoundError("this session does not see the key any more")
        return Response(
            text,
            content_type="text/plain; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{backup_id}.key"'},
        )

    @pages.post("/backups/<backup_id>/key/stored")
    @requires("view_key")
    def stored(backup_id: str) -> BaseResponse:
        backup_id = parse_backup_id(backup_id)
        value = request.cookies.get(COOKIE)
        if value is not None:
            command = KeyStored(request_id=viewing_of(value, backup_id, _session()).request_id)
            confirm_stored(context, backup_id, command, http_requester())
        response = redirect(f"{frame.prefix}/backups/{backup_id}", 303)
        response.delete_cookie(COOKIE, path=path_of(backup_id), httponly=True, samesite="Strict")
        return response


def _take(context: BackupContext, backup_id: str, value: str) -> str:
    """Return the key file, through the handler that everybody's viewing goes through.

    Raises KeyNotReady, KeyAlreadyViewed, KeyExpired.
    """
    viewing = viewing_of(value, backup_id, _session())
    command = ViewKey(
        request_id=viewing.request_id, recipient=viewing.identity.to_recipient().encode()
    )
    sealed = bytes.fromhex(view_key(context, backup_id, command, http_requester())["sealed_key"])
    return open_sealed(sealed, [viewing.identity], MAX_KEY_FILE_BYTES).decode("utf-8")


def _session() -> str:
    """Return what tells this session from every other; who has a token has one session."""
    session = current_session()
    return str(session.session_id) if session is not None else current_caller().name
