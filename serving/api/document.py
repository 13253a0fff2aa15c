"""The OpenAPI 3.1 document of a service, made from the declarations of its routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Literal

from flask import Blueprint, Flask, Response, jsonify, render_template
from pydantic import TypeAdapter
from werkzeug.routing import Rule

from serving.api.operation import CHECK_ANSWERS, JSON, Operation, operation
from serving.caller import any_caller
from shared.api.problem import Problem
from shared.errors import (
    AccessError,
    NotAuthenticated,
    NotFoundError,
    SecrynError,
    UnavailableError,
    UsageError,
)

Json = dict[str, Any]
Mode = Literal["validation", "serialization"]

PREFIX = "/api/v1/"
PROBLEM = "application/problem+json"
OPEN = "none, and no token"
_METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE")
_ARGUMENT = re.compile(r"<(?:[a-z]+:)?([a-z_]+)>")
_REF = "#/components/schemas/{model}"
# Every operation may answer with these.
_ALWAYS: tuple[type[SecrynError], ...] = (
    UsageError, NotAuthenticated, AccessError, UnavailableError,
)  # fmt: skip


@dataclass(frozen=True)
class Described:
    """One method of one path, and what is known of it."""

    path: str
    method: str
    endpoint: str
    operation: Operation
    permission: str
    description: str

    @property
    def arguments(self) -> list[str]:
        """Return the names of what stands in the path."""
        return re.findall(r"{([a-z_]+)}", self.path)


def serve_document(
    app: Flask, title: str, *, check_answers: bool, messages: Json | None = None
) -> None:
    """Serve the document of all that ``app`` has under /api/v1, and a page to read it.

    ``messages`` is the AsyncAPI document of the same service, served beside it. With
    ``check_answers`` every answer is held against its declaration.
    """
    app.config[CHECK_ANSWERS] = check_answers
    made: Json = {}
    app.register_blueprint(_routes(made, messages))
    made |= openapi(described(app), title)


def _routes(made: Json, messages: Json | None) -> Blueprint:
    routes = Blueprint("api", __name__, url_prefix="/api/v1", template_folder="templates")

    @routes.get("/openapi.json")
    @operation("This document", answer=Json)
    @any_caller
    def document() -> Response:
        return jsonify(made)

    if messages is not None:

        @routes.get("/asyncapi.json")
        @operation("What is said and taken over Kafka: AsyncAPI 3.0", answer=Json)
        @any_caller
        def spoken() -> Response:
            return jsonify(messages)

    @routes.get("/docs")
    @operation("This document, to be read by a person", gives="text/html")
    @any_caller
    def page() -> Response:
        response = Response(
            render_template("api.html", api=made, messages=messages), content_type="text/html"
        )
        # Nothing is loaded from anywhere, and nothing runs.
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        return response

    @routes.get("/docs.css")
    @operation("The style of that page", gives="text/css")
    @any_caller
    def style() -> Response:
        return Response(render_template("api.css"), content_type="text/css")

    return routes


def described(app: Flask) -> list[Described]:
    """Return every declared operation below /api/v1, by path."""
    found = [each for rule in app.url_map.iter_rules() for each in _of_rule(app, rule)]
    return sorted(found, key=lambda each: (each.path, _METHODS.index(each.method)))


def undeclared(app: Flask) -> list[str]:
    """Return the routes below /api/v1 that have no declaration, or do not say who may."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith(PREFIX)]
    return sorted(rule.rule for rule in rules if not list(_of_rule(app, rule)))


def _of_rule(app: Flask, rule: Rule) -> Iterator[Described]:
    if not rule.rule.startswith(PREFIX):
        return
    view = app.view_functions[rule.endpoint]
    declared, permission = view.__dict__.get("operation"), _who(view.__dict__)
    if not isinstance(declared, Operation) or permission is None:
        return
    path = _ARGUMENT.sub(r"{\1}", rule.rule)
    for method in _METHODS:
        if method in (rule.methods or ()):
            yield Described(
                path, method, rule.endpoint, declared, permission, (view.__doc__ or "").strip()
            )


def _who(marks: dict[str, Any]) -> str | None:
    """Return what the decorators of ``serving.caller`` say; None where there is none."""
    if marks.get("open_to_all"):
        return OPEN
    return "any" if marks.get("any_caller") else marks.get("required_permission")


def openapi(operations: Iterable[Described], title: str) -> Json:
    """Return the document of ``operations``."""
    operations = list(operations)
    schemas = _Schemas(operations)
    paths: Json = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version("secryn-backup"),
            "description": "Every refusal is an RFC 9457 problem with a stable `code`.",
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.definitions,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Schemas:
    """The JSON Schemas of all models, each under a name of its own."""

    def __init__(self, operations: Iterable[Described]) -> None:
        self._refs: dict[int, Json] = {}
        models: dict[int, Any] = {id(Problem): Problem}
        for each in operations:
            known = each.operation
            models |= {id(m): m for m in (known.answer, known.body) if m is not None}
        inputs: list[tuple[int, Mode, TypeAdapter[Any]]] = [
            (key, "validation", TypeAdapter(model)) for key, model in models.items()
        ]
        found, shared = TypeAdapter.json_schemas(inputs, ref_template=_REF)
        self.definitions: Json = dict(sorted(shared.get("$defs", {}).items()))
        self._refs = {key: schema for (key, _), schema in found.items()}
        for each in operations:
            self._leave_out(each.operation)

    def _leave_out(self, known: Operation) -> None:
        """Note that the id of a command may come as its Idempotency-Key."""
        if known.body is None or known.idempotent is None:
            return
        body = self.definitions[self._refs[id(known.body)]["$ref"].rsplit("/", 1)[1]]
        body["required"] = [name for name in body.get("required", ()) if name != known.idempotent]

    def of(self, model: Any) -> Json:
        """Return what stands for ``model`` in the document."""
        return self._refs[id(model)]


def _operation(each: Described, schemas: _Schemas) -> Json:
    known = each.operation
    blueprint, _, name = each.endpoint.rpartition(".")
    found: Json = {
        "operationId": each.endpoint.replace(".", "_"),
        "summary": known.summary,
        "tags": [blueprint or name],
        "x-permission": each.permission,
        "parameters": [
            *_path_parameters(each),
            *_query_parameters(known),
            *_header_parameters(known),
        ],
        "responses": _responses(each, schemas),
    }
    if each.description:
        found["description"] = each.description
    if known.body is not None:
        found["requestBody"] = _content({JSON: {"schema": schemas.of(known.body)}})
    elif known.takes is not None:
        found["requestBody"] = _content({known.takes: {}})
    if each.permission == OPEN:
        found["security"] = []
    return found


def _content(media: Json) -> Json:
    return {"required": True, "content": media}


def _path_parameters(each: Described) -> Iterator[Json]:
    for name in each.arguments:
        schema: Json = {"type": "string"}
        if name.endswith("_id"):
            schema["format"] = "uuid"
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(known: Operation) -> Iterator[Json]:
    if known.query is None:
        return
    schema = known.query.model_json_schema(ref_template=_REF)
    for name, described in schema.get("properties", {}).items():
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ())}
        text = described.pop("description", None)
        yield parameter | {"schema": described} | ({"description": text} if text else {})


def _header_parameters(known: Operation) -> Iterator[Json]:
    for name, text in known.takes_headers.items():
        yield {"name": name, "in": "header", "schema": {"type": "string"}, "description": text}


def _responses(each: Described, schemas: _Schemas) -> Json:
    known = each.operation
    content: Json = {media: {} for media in known.gives}
    if known.answer is not None:
        content[JSON] = {"schema": schemas.of(known.answer)}
    headers = {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in known.headers.items()
    }
    found: Json = {}
    for status in known.statuses:
        entry: Json = {"description": HTTPStatus(status).phrase}
        if status not in (204, 303, 304):
            entry["content"] = content
        found[str(status)] = entry | ({"headers": headers} if headers else {})
    problem = {PROBLEM: {"schema": schemas.of(Problem)}}
    for number, codes in _problems(each).items():
        found[str(number)] = {
            "description": ", ".join(f"`{code}`" for code in codes),
            "content": problem,
        }
    return found | {"default": {"description": "Any other problem", "content": problem}}


def _problems(each: Described) -> dict[int, list[str]]:
    kinds = {*_ALWAYS, *each.operation.problems}
    if each.arguments and not any(issubclass(kind, NotFoundError) for kind in kinds):
        kinds.add(NotFoundError)
    by_status: dict[int, list[str]] = {}
    for kind in sorted(kinds, key=lambda kind: (kind.http_status, kind.code)):
        by_status.setdefault(kind.http_status, []).append(kind.code)
    return by_status
