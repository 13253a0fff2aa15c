"""The HTTP interface of uploads: whole, or in pieces that go on where the last one ended.

A piece says where it begins (``Upload-Offset``) and how large all of it is (``Upload-Length``), as
in the IETF's draft of resumable uploads. The digest of all of it may come along (``Repr-Digest``,
RFC 9530).
"""

from __future__ import annotations

import base64
import binascii
import re
from uuid import UUID

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import ClientDisconnected

from restore_service.context import RestoreContext
from restore_service.uploads import Hashes, Piece, drop_upload, get_upload, receive
from serving.api import operation
from serving.caller import requires
from shared.api.restores import Upload
from shared.errors import (
    ArchiveTruncated,
    DigestMismatch,
    MediaTypeUnsupported,
    NoSpace,
    UploadNotFound,
    UploadOffset,
    UploadTooLarge,
    UsageError,
)

OCTETS = "application/octet-stream"
PARTIAL = "application/partial-upload"
OFFSET, LENGTH, DIGEST = "Upload-Offset", "Upload-Length", "Repr-Digest"
_NUMBER = re.compile(r"[0-9]{1,18}")
_SHA256 = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]+):")
_PROBLEMS = (ArchiveTruncated, UploadTooLarge, UploadOffset, DigestMismatch, NoSpace,
             MediaTypeUnsupported)  # fmt: skip
_HAS_OFFSET = {OFFSET: "How many bytes are there: where to go on."}


class _Body:
    """The request's body; a sender who is gone is its end."""

    def read(self, size: int = -1, /) -> bytes:
        try:
            return request.stream.read(size)
        except ClientDisconnected:
            return b""


def create_upload_routes(context: RestoreContext) -> Blueprint:
    """Return the routes below /api/v1/uploads."""
    routes = Blueprint("uploads", __name__, url_prefix="/api/v1/uploads")
    hashes = Hashes()

    def take(piece: Piece) -> Response:
        most = context.settings.restore.upload_max_bytes
        response = jsonify(receive(context.uploads, hashes, piece, _Body(), most))
        response.status_code = 201 if response.get_json()["complete"] else 202
        return _with_offset(response)

    @routes.put("/<upload_id>")
    @operation(
        "Upload an archive in one body",
        takes=OCTETS,
        takes_headers={DIGEST: "sha-256=:BASE64: of all of it; what differs is refused."},
        answer=Upload,
        status=201,
        headers=_HAS_OFFSET,
        problems=_PROBLEMS,
    )
    @requires("restore")
    def upload(upload_id: str) -> Response:
        size = _content_length()
        return take(Piece(_upload_id(upload_id), 0, size, size, _digest()))

    @routes.patch("/<upload_id>")
    @operation(
        "Upload a piece of an archive, where the last one ended",
        takes=PARTIAL,
        takes_headers={
            OFFSET: "Where the piece begins.",
            LENGTH: "How many bytes all of it has.",
            DIGEST: "sha-256=:BASE64: of all of it; what differs is refused.",
        },
        answer=Upload,
        status=(201, 202),
        headers=_HAS_OFFSET,
        problems=_PROBLEMS,
    )
    @requires("restore")
    def go_on(upload_id: str) -> Response:
        if request.mimetype != PARTIAL:
            raise MediaTypeUnsupported(f"a piece is {PARTIAL}")
        offset, total = _number(OFFSET), _number(LENGTH)
        return take(Piece(_upload_id(upload_id), offset, _content_length(), total, _digest()))

    @routes.get("/<upload_id>")
    @operation(
        "How far an upload is", answer=Upload, headers=_HAS_OFFSET, problems=(UploadNotFound,)
    )
    @requires("restore")
    def show(upload_id: str) -> Response:
        return _with_offset(jsonify(get_upload(context.uploads, _upload_id(upload_id))))

    @routes.delete("/<upload_id>")
    @operation("Forget an upload", status=204)
    @requires("restore")
    def drop(upload_id: str) -> Response:
        drop_upload(context.uploads, _upload_id(upload_id))
        return Response(status=204)

    return routes


def _with_offset(response: Response) -> Response:
    response.headers[OFFSET] = str(response.get_json()["offset_bytes"])
    return response


def _content_length() -> int:
    if "Transfer-Encoding" in request.headers:
        raise UsageError("an upload needs a Content-Length")
    return request.content_length or 0


def _number(header: str) -> int:
    text = request.headers.get(header, "")
    if _NUMBER.fullmatch(text) is None:
        raise UsageError(f"the header {header} must be a whole number")
    return int(text)


def _digest() -> str | None:
    """Return the SHA-256 that the sender promises; other algorithms are passed over (RFC 9530)."""
    found = _SHA256.search(request.headers.get(DIGEST, ""))
    if found is None:
        return None
    try:
        raw = base64.b64decode(found[1], validate=True)
    except binascii.Error:
        raise UsageError(f"the header {DIGEST} is not sha-256=:BASE64:") from None
    if len(raw) != 32:
        raise UsageError(f"the header {DIGEST} holds no SHA-256")
    return raw.hex()


def _upload_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise UsageError("the id of an upload is a UUID that you choose") from None
