"""Every route is declared, and the OpenAPI document is made of the declarations."""

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, g, jsonify
from jinja2 import StrictUndefined
from pydantic import BaseModel
from typing_extensions import TypedDict

from serving.api import operation, query, serve_document
from serving.api.document import described, undeclared
from serving.api.operation import AnswerDiffers
from serving.app import Readiness, create_app
from serving.caller import OperatorToken, requires
from shared.clock import SYSTEM_CLOCK
from shared.errors import BackupNotFound
from shared.secretfiles import write_secret_file

BEARER = {"Authorization": "Bearer token"}


class Wanted(BaseModel):
    limit: int = 10


class Thing(TypedDict):
    """A thing."""

    name: str


def application(folder: Path, routes: Blueprint, check_answers: bool = True) -> Flask:
    write_secret_file(folder / "token", b"token")
    app = create_app("a service", OperatorToken(folder / "token", SYSTEM_CLOCK), Readiness())
    # As the pages want it.
    app.jinja_env.undefined = StrictUndefined
    app.register_blueprint(routes)
    serve_document(app, "a service", check_answers=check_answers)
    return app


@pytest.fixture
def routes() -> Blueprint:
    return Blueprint("things", "things", url_prefix="/api/v1")


def test_a_route_that_is_not_declared_or_says_not_who_may_is_found(
    tmp_path: Path, routes: Blueprint
) -> None:
    @routes.get("/bare")
    @requires("read")
    def bare() -> Response:
        return jsonify(name="x")

    @routes.get("/open")
    @operation("Things", answer=Thing)
    def unguarded() -> Response:
        return jsonify(name="x")

    @routes.get("/good")
    @operation("Things", answer=Thing)
    @requires("read")
    def good() -> Response:
        return jsonify(name="x")

    app = application(tmp_path, routes)
    assert undeclared(app) == ["/api/v1/bare", "/api/v1/open"]
    assert "/api/v1/good" in {each.path for each in described(app)}


@pytest.fixture
def app(tmp_path: Path, routes: Blueprint) -> Flask:
    @routes.get("/things/<thing_id>")
    @operation("One thing", query=Wanted, answer=Thing, problems=(BackupNotFound,))
    @requires("read")
    def thing(thing_id: str) -> Response:
        return jsonify(name="x" * query(Wanted).limit)

    @routes.get("/wrong")
    @operation("Another thing than it says", answer=Thing)
    @requires("read")
    def wrong() -> Response:
        return jsonify(name=1)

    @routes.post("/plain")
    @operation("Nothing in its address", answer=Thing)
    @requires("create")
    def plain() -> Response:
        return jsonify(name=g.caller.name)

    return application(tmp_path, routes)


def test_the_document_tells_permission_parameters_answers_and_problems(app: Flask) -> None:
    document = app.test_client().get("/api/v1/openapi.json", headers=BEARER).get_json()
    assert document["openapi"] == "3.1.0"
    thing = document["paths"]["/api/v1/things/{thing_id}"]["get"]
    assert thing["x-permission"] == "read"
    assert [each["name"] for each in thing["parameters"]] == ["thing_id", "limit"]
    content = thing["responses"]["200"]["content"]
    assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
    assert thing["responses"]["404"]["description"] == "`backup.not_found`"
    assert document["components"]["schemas"]["Thing"]["required"] == ["name"]


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing(app: Flask) -> None:
    answer = app.test_client().get("/api/v1/docs", headers=BEARER)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "//" not in answer.text
    assert "<script" not in answer.text
    assert "style=" not in answer.text
    assert app.test_client().get("/api/v1/docs.css", headers=BEARER).mimetype == "text/css"


@pytest.mark.parametrize("path", ["openapi.json", "docs", "docs.css"])
def test_the_document_is_closed_to_strangers(app: Flask, path: str) -> None:
    assert app.test_client().get(f"/api/v1/{path}").status_code == 401


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/api/v1/things/x?limit=many", "limit"),
        ("/api/v1/things/x?token=secret", "token"),
        ("/api/v1/things/x?limit=1&limit=2", "limit"),
        ("/api/v1/openapi.json?token=secret", "address"),
    ],
)
def test_what_is_not_declared_is_refused_and_not_repeated(
    app: Flask, path: str, named: str
) -> None:
    answer = app.test_client().get(path, headers=BEARER)
    problem: Any = answer.get_json()
    assert (answer.status_code, problem["code"]) == (400, "usage.invalid")
    assert named in problem["detail"]
    assert "secret" not in json.dumps(problem)


def test_an_answer_that_is_not_what_it_is_declared_to_be_is_an_error(
    app: Flask, tmp_path: Path
) -> None:
    assert app.test_client().get("/api/v1/things/x", headers=BEARER).status_code == 200
    answer = app.test_client().get("/api/v1/wrong", headers=BEARER)
    assert (answer.status_code, answer.get_json()["code"]) == (500, "internal")
    with app.test_request_context("/api/v1/wrong"):
        g.caller = OperatorToken(tmp_path / "token", SYSTEM_CLOCK).authenticate("token")
        with pytest.raises(AnswerDiffers, match="name"):
            app.view_functions["things.wrong"]()
