"""How a command comes in over HTTP and is answered: its id may be the request's Idempotency-Key.

There is no cache of answers, which could hold a key: the same command id is the same command, and
what it made is answered as it is now.
"""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID, uuid5

from flask import Response, current_app, jsonify, request

from serving.api.operation import IDEMPOTENCY_KEY, Operation
from serving.caller import current_caller
from serving.requester import json_body
from shared.errors import UsageError

_KEYS: Final = UUID("c5a9e0b2-7d1f-5b7e-9c55-2f3b1f6f0a11")
# A string of structured fields (RFC 9651), or the same without its quotes.
_KEY: Final = re.compile(r'"?([\x21\x23-\x5b\x5d-\x7e]{1,255})"?')


def command_body() -> Any:
    """Return the request's JSON body with the id that its Idempotency-Key gives.

    A UUID is the id itself; another key is one for this caller and this address. Raises as
    ``json_body``, UsageError for a key that is none, or with an id beside it that is another.
    """
    document = json_body()
    field = _field()
    key = request.headers.get(IDEMPOTENCY_KEY)
    if field is None or key is None or not isinstance(document, dict):
        return document
    identity = _identity(key)
    given = document.setdefault(field, identity)
    if str(given).lower() != identity:
        raise UsageError(f"{IDEMPOTENCY_KEY} and {field} name two commands")
    return document


def _field() -> str | None:
    view = current_app.view_functions[str(request.endpoint)]
    declared = view.__dict__.get("operation")
    return declared.idempotent if isinstance(declared, Operation) else None


def _identity(key: str) -> str:
    found = _KEY.fullmatch(key.strip())
    if found is None:
        raise UsageError(f"the header {IDEMPOTENCY_KEY} has 1 to 255 visible characters")
    try:
        return str(UUID(found[1]))
    except ValueError:
        about = "\n".join((current_caller().name, request.method, request.path, found[1]))
        return str(uuid5(_KEYS, about))


# The header of an answer that says 202.
LOCATION: Final = {"Location": "Where to watch what becomes of it."}


def accepted(document: dict[str, Any], location: str) -> Response:
    """Answer 202 with the document, and where to watch what becomes of it."""
    response = jsonify(document)
    response.status_code = 202
    response.headers["Location"] = location
    return response
