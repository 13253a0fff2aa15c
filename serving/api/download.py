"""A stored object as an answer: whole, or the one part of it that was asked for (RFC 9110, 14)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from flask import Response, request

from shared.errors import RangeUnsatisfiable

TAKES: Final = {
    "Range": "bytes=FIRST-LAST, bytes=FIRST- or bytes=-LAST_N; anything else gives all of it.",
    "If-Range": "The ETag of what is there already: another object is given from its beginning.",
    "If-None-Match": "The ETag of what is there already.",
}
GIVES: Final = {
    "ETag": "The SHA-256 of the object.",
    "Repr-Digest": "sha-256=:BASE64: of the whole object (RFC 9530).",
    "Accept-Ranges": "bytes",
    "Content-Range": "Which part it is of how many bytes.",
}


@dataclass(frozen=True)
class StoredObject:
    """An object of the storage that never changes."""

    name: str
    size_bytes: int
    sha256: str


def send_object(stored: StoredObject, chunks: Callable[[int, int], Iterable[bytes]]) -> Response:
    """Answer with the object, or its part: ``chunks(start, end)`` yields its bytes.

    Raises RangeUnsatisfiable, and what ``chunks`` raises.
    """
    if request.if_none_match.contains(stored.sha256):
        response = Response(status=304)
        response.set_etag(stored.sha256)
        return response
    part = _part(stored)
    start, end = part or (0, stored.size_bytes)
    digest = base64.b64encode(bytes.fromhex(stored.sha256)).decode("ascii")
    headers = {
        "Content-Length": str(end - start),
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{digest}:",
        "Content-Disposition": f'attachment; filename="{stored.name}"',
    }
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size_bytes}"
    response = Response(
        () if request.method == "HEAD" else chunks(start, end),
        status=200 if part is None else 206,
        headers=headers,
        content_type="application/octet-stream",
    )
    response.set_etag(stored.sha256)
    return response


def _part(stored: StoredObject) -> tuple[int, int] | None:
    """Return the part that is asked for, its end not in it; None for all.

    One that is not understood, several at once, or of another object: all (RFC 9110, 14.2).
    """
    wanted = request.range
    known = request.if_range.etag if request.if_range is not None else None
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return None
    if "If-Range" in request.headers and known != stored.sha256:
        return None
    first, last = wanted.ranges[0]
    if last is None and first is not None and -first >= stored.size_bytes > 0:
        # More of the end than there is: all of it.
        return 0, stored.size_bytes
    part = wanted.range_for_length(stored.size_bytes)
    if part is None:
        raise RangeUnsatisfiable(
            f"the object has {stored.size_bytes:,} bytes", size_bytes=stored.size_bytes
        )
    return part[0], part[1]
