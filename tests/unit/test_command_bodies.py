"""Whatever stands in a command's body: one of our errors, and one that can be told to others."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from uuid import uuid4

import pytest
from flask import Flask

from backup_service.commands import parse_create_message
from restore_service.commands import (
    Approve,
    ChangeApproval,
    RehearseRestore,
    RestoreInstance,
    StartRestore,
    UndoRestore,
    parse_message,
)
from serving.app import Readiness, create_app
from serving.caller import PERMISSIONS, Caller
from serving.requester import BODY_MAX_BYTES, json_body
from shared.errors import MAX_MESSAGE_CHARS, SecrynError

PARSERS = [
    parse_create_message,
    partial(parse_message, RestoreInstance),
    partial(parse_message, UndoRestore),
    partial(parse_message, RehearseRestore),
    partial(parse_message, Approve),
    partial(parse_message, StartRestore),
    partial(parse_message, ChangeApproval),
]
DEEP = b"[" * 100_000
TYPE_OF = {"Content-Type": "application/json", "Authorization": "Bearer t"}


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b'{"reason": ' + DEEP,
        b"1" * 100_000,
        b'{"command_id": ' + b"9" * 4000 + b"}",
        b'{"reason": "\\ud800"}',
        b'{"\\ud800": 1}',
        b"null",
        b"\xff\xfe",
    ],
)
def test_a_body_that_is_no_command_is_one_of_our_errors(
    parse: Callable[[bytes], object], body: bytes
) -> None:
    with pytest.raises(SecrynError):
        parse(body)


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "body",
    [
        {"x" * 900_000: 1},
        {f"field {number}": 1 for number in range(50_000)},
        {"reason": "why", "command_id": "\x01" * 900_000},
    ],
)
def test_what_is_said_of_a_command_always_fits_into_a_message(
    parse: Callable[[bytes], object], body: dict[str, object]
) -> None:
    # It becomes an audit event and an answer: one that is too large would stop all behind it.
    with pytest.raises(SecrynError) as refused:
        parse(json.dumps(body).encode())
    assert len(refused.value.message) <= MAX_MESSAGE_CHARS
    assert len(str(refused.value)) <= MAX_MESSAGE_CHARS


class Anybody:
    def authenticate(self, token: str) -> Caller:
        return Caller("anybody", PERMISSIONS)


@pytest.fixture
def app() -> Flask:
    made = create_app(f"test-{uuid4()}", Anybody(), Readiness())

    @made.post("/body")
    def body() -> dict[str, int]:
        return {"fields": len(json_body())}

    return made


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"a": 1}', 200),
        (DEEP, 400),
        (b"{", 400),
        (b"", 400),
        (b'{"a": "' + b"x" * BODY_MAX_BYTES + b'"}', 413),
    ],
)
def test_an_http_body_is_read_up_to_a_limit(app: Flask, body: bytes, status: int) -> None:
    answer = app.test_client().post("/body", data=body, headers=TYPE_OF)
    assert answer.status_code == status
    if status != 200:
        assert answer.json is not None
        assert answer.json["status"] == status
        assert answer.json["hint"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/body", 405), ("GET", "/no", 404)])
def test_a_problem_says_the_status_that_it_is_answered_with(
    app: Flask, method: str, path: str, status: int
) -> None:
    answer = app.test_client().open(path, method=method, headers=TYPE_OF)
    assert answer.json is not None
    assert (answer.status_code, answer.json["status"]) == (status, status)
