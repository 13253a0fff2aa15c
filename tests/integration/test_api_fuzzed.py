"""Whatever is sent to an operation of either service: an answer as its document says.

schemathesis makes requests from each service's own OpenAPI document, valid and broken ones, and
holds the answers against it. The applications run in this process, on a real PostgreSQL and Kafka.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    missing_required_header,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.access.schema import migrate_access
from serving.api.document import described as described_routes
from serving.api.document import undeclared
from tests.accessing import OWNER
from tests.backing import Backing
from tests.clientcalls import asked
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres
from tests.restoring import Restoring
from tests.serving_api import backup_http, board_of, restore_http

BEARER = {"Authorization": "Bearer token"}
# What a caller may rely on whatever it sends. A request that the document allows may still be
# refused: for what stands in it, or for what is there.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    missing_required_header,
    allow_header_conformance,
]
EXAMPLES = 12
schemathesis.serializer.alias("application/partial-upload", "application/octet-stream")


def described(app: Flask) -> Any:
    document = app.test_client().get("/api/v1/openapi.json", headers=BEARER).get_json()
    schema = schemathesis.openapi.from_dict(document)
    schema.app = app
    return schema


@pytest.fixture(scope="module")
def backup_api(
    postgres: TestPostgres, kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    backing = Backing.create(postgres, kafka, tmp_path_factory.mktemp("backup"))
    with backing.stack, backing.projector():
        migrate_access(backing.context.pool, OWNER)
        yield described(backup_http(backing.context, board_of(backing.context)))


@pytest.fixture(scope="module")
def restore_api(
    postgres: TestPostgres, kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("restore")
    restoring = Restoring.create(postgres, folder, kafka.settings())
    context = restoring.context
    migrate_access(context.pool, OWNER)
    yield described(restore_http(context, board_of(context)))
    context.pool.close()


@pytest.fixture(scope="module", autouse=True)
def streams_that_end() -> Iterator[None]:
    """A stream is over when its headers are told: nobody waits here for what it tells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.watching.answers.LONGEST_S", 0.0)
        yield


def test_every_route_is_declared(backup_api: Any, restore_api: Any) -> None:
    for schema in (backup_api, restore_api):
        assert undeclared(schema.app) == []


def test_the_client_returns_what_the_operations_declare(backup_api: Any, restore_api: Any) -> None:
    declared = {
        (each.method, re.sub("{[a-z_]+}", "{}", each.path)): each.operation.answer
        for schema in (backup_api, restore_api)
        for each in described_routes(schema.app)
    }
    asks = list(asked())
    told = {one: declared.get((one.method, one.path)) for one in asks}
    assert told == {one: one.answer for one in asks}
    # What a browser has of its own, and what describes the others.
    known = {(one.method, one.path) for one in asks}
    assert {which for which, answer in declared.items() if answer} - known == {
        ("GET", "/api/v1/asyncapi.json"),
        ("GET", "/api/v1/openapi.json"),
        ("POST", "/api/v1/session"),
        ("POST", "/api/v1/session/bootstrap"),
        ("POST", "/api/v1/session/prove"),
        ("PUT", "/api/v1/uploads/{}"),
    }


fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


def fuzz(schema: Any) -> None:
    """Send what the document allows and what it does not to every operation."""
    failed: list[Exception] = []
    for found in schema.get_all_operations():
        operation = found.ok()
        refusable = operation.body or operation.query
        for mode in GenerationMode if refusable else [GenerationMode.POSITIVE]:
            try:
                send(operation, mode)
            except Exception as error:
                error.add_note(operation.label)
                failed.append(error)
    if failed:
        raise ExceptionGroup("answers that the document does not tell of", failed)


def send(operation: Any, mode: GenerationMode) -> None:
    @fuzzed
    @given(case=operation.as_strategy(generation_mode=mode))
    def answered(case: schemathesis.Case[Any]) -> None:
        # An empty list or object in a query is nothing that could be sent, and so nothing wrong.
        assume(all(value not in ([], {}) for value in (case.query or {}).values()))
        case.call_and_validate(headers=BEARER, checks=CHECKS)

    answered()


def test_backup_service_answers_as_its_document_says(backup_api: Any) -> None:
    fuzz(backup_api)


def test_restore_service_answers_as_its_document_says(restore_api: Any) -> None:
    fuzz(restore_api)
