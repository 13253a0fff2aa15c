"""The two answers about a thing that is watched: its document, at once or when it has changed; and
its changes as server-sent events (WHATWG HTML, section 9.2).

An event ``state`` has the position of the thing's last event as its id. Whoever comes back with
``Last-Event-ID`` gets the document only if something happened since. Events ``progress`` have no
id: they tell of this moment. After ``end`` nothing more comes, and who asks again learns so (204).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import Annotated, Any, Final

from flask import Response, jsonify, request
from pydantic import BaseModel, Field

from serving.watching.board import Json, Seen, Watch, WatchBoard, Watched, remaining
from shared.errors import UsageError, WatchersBusy

EVENT_STREAM: Final = "text/event-stream"
WAIT_MAX_S: Final = 30
# A proxy cuts off what is silent for longer, and only by writing is a lost watcher noticed.
HEARTBEAT_S: Final = 15.0
# Then the watcher comes back by itself, and who it is and what it may is looked at again.
LONGEST_S: Final = 120.0
RECONNECT_MS: Final = 500
_POSITION_DIGITS: Final = 18
_RUNNING: Final = ("step", "progress", "elapsed_s")


class WaitQuery(BaseModel):
    """For how long to wait until the document is another one than If-None-Match says."""

    wait_s: Annotated[int, Field(ge=0, le=WAIT_MAX_S)] = 0


# How the two are declared, whatever is watched: ``@operation("One backup, ...", answer=..., **WAITS)``.
WAITS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "query": WaitQuery,
        "takes_headers": {"If-None-Match": "The ETag of what is known."},
        "status": (200, 304),
        "headers": {"ETag": "Another one with every change."},
    }
)
FOLLOWS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "takes_headers": {"Last-Event-ID": "The id of the last event that came."},
        "gives": EVENT_STREAM,
        "status": (200, 204),
    }
)


def show(board: WatchBoard, thing: Watched, wait_s: int) -> Response:
    """Answer with the document and its ETag, or 304 when nothing changed in ``wait_s``.

    Where too many watch already, nobody waits: the document is answered as it is.
    """
    tags = request.if_none_match
    known = next(iter(tags.as_set()), None)
    if known is None or not wait_s:
        seen = board.see(thing)
    else:
        try:
            with board.watching(thing) as watch:
                seen = watch.wait(known, wait_s)
        except WatchersBusy:
            seen = board.see(thing)
    response = Response(status=304) if tags.contains(seen.tag) else jsonify(seen.document)
    response.set_etag(seen.tag)
    return response


def follow(board: WatchBoard, thing: Watched) -> Response:
    """Answer with the thing's changes until it ends. Raises WatchersBusy."""
    known = request.headers.get("Last-Event-ID", "")
    with ExitStack() as stack:
        watch = stack.enter_context(board.watching(thing))
        if watch.now.ended and known == str(watch.now.position):
            return Response(status=204)
        # From here on the answer holds the place, and gives it back when it is over.
        held = stack.pop_all()
    stream = Response(_events(board, watch, known), content_type=EVENT_STREAM)
    stream.call_on_close(held.close)
    stream.headers["X-Accel-Buffering"] = "no"
    return stream


def _events(board: WatchBoard, watch: Watch, known: str) -> Iterator[bytes]:
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    deadline = time.monotonic() + LONGEST_S
    told: str | None = None
    while not board.closed and remaining(deadline):
        seen = watch.wait(told, min(HEARTBEAT_S, remaining(deadline)))
        if seen.tag == told:
            yield b": nothing new\n\n"
            continue
        told = seen.tag
        if str(seen.position) != known:
            known = str(seen.position)
            yield _event("state", seen.document, known)
        else:
            yield _event("progress", _running(seen))
        if seen.ended:
            yield _event("end", {})
            return


def follow_list(
    board: WatchBoard, thing: Watched, after: int, changes: Callable[[int], list[Json]], name: str
) -> Response:
    """Answer with what changes in a list, one event ``name`` a change, whose id is its position.

    ``changes`` returns those behind a position in their order, at most a page of them. Begins
    behind ``Last-Event-ID``, or ``after``. Raises WatchersBusy, UsageError.
    """
    known = request.headers.get("Last-Event-ID", str(after))
    if not known.isascii() or not known.isdigit() or len(known) > _POSITION_DIGITS:
        raise UsageError("Last-Event-ID is the id of an event that came")
    with ExitStack() as stack:
        watch = stack.enter_context(board.watching(thing))
        held = stack.pop_all()
    stream = Response(_changes(board, watch, int(known), changes, name), content_type=EVENT_STREAM)
    stream.call_on_close(held.close)
    stream.headers["X-Accel-Buffering"] = "no"
    return stream


def _changes(
    board: WatchBoard, watch: Watch, after: int, changes: Callable[[int], list[Json]], name: str
) -> Iterator[bytes]:
    # The id alone: whoever is cut off before the first change comes back to this very place.
    yield f"retry: {RECONNECT_MS}\nid: {after}\n\n".encode()
    deadline = time.monotonic() + LONGEST_S
    while not board.closed and remaining(deadline):
        # Looked at before it is read: what changes in between is another change.
        seen = watch.now
        found = changes(after)
        for change in found:
            after = int(change["position"])
            yield _event(name, change, str(after))
        if found:
            continue
        if watch.wait(seen.tag, min(HEARTBEAT_S, remaining(deadline))).tag == seen.tag:
            yield b": nothing new\n\n"


def _running(seen: Seen) -> dict[str, Any]:
    return {name: seen.document[name] for name in _RUNNING if name in seen.document}


def _event(name: str, data: dict[str, Any], identity: str | None = None) -> bytes:
    lines = [f"event: {name}", f"data: {json.dumps(data, separators=(',', ':'))}"]
    if identity is not None:
        lines.insert(0, f"id: {identity}")
    return ("\n".join(lines) + "\n\n").encode()
