"""The declaration of one operation: what it takes, what it answers, what it may be refused for.

    @routes.post("/backups")
    @operation("Ask for a backup", body=CreateBackup, answer=Backup, status=202)
    @requires("create")
    def create() -> tuple[Response, int]: ...

The OpenAPI document is made from these, and with the setting ``http.check_answers`` every answer
is held against its own. A test finds the route of ``/api/v1`` that has none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ParamSpec, TypeVar

from flask import Response, current_app, make_response, request
from pydantic import BaseModel, TypeAdapter, ValidationError

from shared.errors import SecrynError, UsageError

JSON = "application/json"
# Where this is true in the application's configuration, answers are checked.
CHECK_ANSWERS = "SECRYN_CHECK_ANSWERS"

IDEMPOTENCY_KEY = "Idempotency-Key"
_KEY_HELP = "The same key again is the same command. Then the body needs no id of its own."

P = ParamSpec("P")
R = TypeVar("R")
Q = TypeVar("Q", bound=BaseModel)


class AnswerDiffers(Exception):
    """An answer is not what its operation declares: a defect of the service."""


@dataclass(frozen=True)
class Operation:
    """What is known of one route.

    ``body`` is the model of a JSON request, ``takes`` the media type of one that is not JSON;
    ``answer`` a model, ``gives`` the media types of what is not JSON. ``statuses`` are those of
    success. ``idempotent`` is the field of the body that an Idempotency-Key stands for
    (``command_body``). ``headers`` are those of the answer, ``takes_headers`` of the request, with what they
    are for.
    """

    summary: str
    answer: Any = None
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    statuses: tuple[int, ...] = (200,)
    problems: tuple[type[SecrynError], ...] = ()
    takes: str | None = None
    gives: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    takes_headers: dict[str, str] = field(default_factory=dict)
    idempotent: str | None = None

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Return what checks an answer."""
        return TypeAdapter(self.answer)

    def check(self, response: Response) -> None:
        """Raise AnswerDiffers unless ``response`` is what is declared."""
        if response.status_code not in self.statuses:
            raise AnswerDiffers(f"{request.endpoint} declares no status {response.status_code}")
        if response.mimetype == JSON and self.answer is not None:
            try:
                self.adapter.validate_json(response.get_data())
            except ValidationError as error:
                faults = error.errors(include_input=False, include_url=False, include_context=False)
                raise AnswerDiffers(f"{request.endpoint}: {faults}") from None
        elif response.mimetype not in self.gives and response.status_code not in (204, 303, 304):
            raise AnswerDiffers(f"{request.endpoint} declares no {response.mimetype}")


def operation(
    summary: str,
    *,
    answer: Any = None,
    status: int | tuple[int, ...] = 200,
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    problems: tuple[type[SecrynError], ...] = (),
    takes: str | None = None,
    gives: str | tuple[str, ...] = (),
    headers: dict[str, str] | None = None,
    takes_headers: dict[str, str] | None = None,
    idempotent: str | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare the decorated view; it stands above ``requires`` and its like.

    The body is read by the view (``json_body`` and the command's own parser), the query string
    by ``query``. A parameter that is not declared is refused. Problems that every operation may
    have (of the caller, of a part that is down) need no mention.
    """
    declared = Operation(
        summary,
        answer,
        body,
        query,
        (status,) if isinstance(status, int) else status,
        problems,
        takes,
        (gives,) if isinstance(gives, str) else gives,
        headers or {},
        (takes_headers or {}) | ({IDEMPOTENCY_KEY: _KEY_HELP} if idempotent else {}),
        idempotent,
    )

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def described(*args: P.args, **kwargs: P.kwargs) -> R:
            if query is None and request.args:
                raise UsageError("this operation takes no parameters in its address")
            answered = view(*args, **kwargs)
            if not current_app.config.get(CHECK_ANSWERS):
                return answered
            response = make_response(answered)
            declared.check(response)
            return response  # type: ignore[return-value]

        described.__dict__["operation"] = declared
        return described

    return decorate


def query(model: type[Q]) -> Q:
    """Return the query string as ``model``. Raises UsageError, naming the parameter."""
    repeated = sorted(name for name, values in request.args.lists() if len(values) > 1)
    if repeated:
        raise UsageError(f"given more than once: {', '.join(name[:64] for name in repeated)}")
    try:
        return model.model_validate_strings(request.args.to_dict(), extra="forbid")
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part)[:64] for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise UsageError(f"the address is refused: {faults}") from None
