"""Who may come in, on a real PostgreSQL, with a clock that a test sets; no process, no port.

doors = Doors.create(postgres, tmp_path)
doors.add_user("anna", "backup.create")           # with the password of every test
browser = doors.browser()                         # a Flask test client
signed_in = browser.post("/api/v1/session", json=doors.credentials("anna"))
doors.clock.pass_(minutes=31)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from argon2 import PasswordHasher
from flask import Flask, Response, jsonify
from flask.testing import FlaskClient

from serving.access import Access
from serving.access.bootstrap import Bootstrap
from serving.access.routes import create_access_routes
from serving.access.schema import migrate_access
from serving.access.settings import AccessSettings
from serving.access.token_routes import create_token_routes
from serving.access.tokens import TokenHolders
from serving.app import Readiness, create_app
from serving.audit import RefusalAudit
from serving.caller import FirstOf, OperatorToken, requires
from tests.clock import HandClock
from tests.plugins.postgres import TestPostgres
from tests.restoring import Restoring

PASSWORD = "correct horse battery"
# Real Argon2id with its smallest cost.
HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
OWNER = "secryn_access"


@dataclass
class Doors:
    """One place, its users and an application with one route of each kind."""

    restoring: Restoring
    access: Access
    clock: HandClock
    app: Flask
    users: dict[str, UUID] = field(default_factory=dict)

    @classmethod
    def create(
        cls, postgres: TestPostgres, folder: Path, settings: AccessSettings | None = None
    ) -> Doors:
        restoring = Restoring.create(postgres, folder)
        context, clock = restoring.context, HandClock()
        migrate_access(context.pool, OWNER)
        settings = settings or AccessSettings()
        instance_id = context.settings.place.instance_id
        access = Access(
            settings, instance_id, context.pool, context.store, context.audit, clock,
            context.settings.bootstrap_file,
        )  # fmt: skip
        app = create_app(
            "test",
            FirstOf(
                OperatorToken(context.settings.http.token_file, clock),
                TokenHolders(access),
                Bootstrap(access),
            ),
            Readiness(),
            access=access,
            on_refusal=RefusalAudit(context.record).refused,
        )
        app.register_blueprint(create_access_routes(access))
        app.register_blueprint(create_token_routes(access))
        _add_routes(app)
        return cls(restoring, access, clock, app)

    # The instance

    def execute(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.restoring.place.dsn(), autocommit=True) as conn:
            conn.execute(statement.encode(), values)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.restoring.place.dsn()) as conn:
            return conn.execute(query.encode(), values).fetchall()

    def add_user(self, name: str, *permissions: str, password: str | None = PASSWORD) -> UUID:
        """Add a user with a role of its own at the scope instance."""
        user, role = uuid4(), uuid4()
        hashed = HASHER.hash(password) if password is not None else None
        self.execute(
            "INSERT INTO instance.users VALUES (%s, %s, %s, '', %s, true, now(), now())",
            user, name, name.title(), hashed,
        )  # fmt: skip
        self.execute("INSERT INTO instance.roles VALUES (%s, %s, '', now())", role, f"of {name}")
        for permission in permissions:
            self.grant(role, permission)
        self.execute(
            "INSERT INTO instance.role_bindings VALUES (%s, %s, %s, 'instance', NULL, now(), '')",
            uuid4(), role, user,
        )  # fmt: skip
        self.users[name] = user
        return role

    def grant(self, role: UUID, permission: str) -> None:
        self.execute("INSERT INTO instance.role_permissions VALUES (%s, %s)", role, permission)

    # The browser

    def browser(self, address: str = "192.0.2.1") -> FlaskClient:
        client = self.app.test_client()
        client.environ_base["REMOTE_ADDR"] = address
        return client

    def bare(self, cookie: str, base_url: str = "http://localhost") -> Any:
        """Return what ``/created`` answers to somebody with a cookie from elsewhere."""
        client = self.app.test_client(use_cookies=False)
        return client.get("/created", headers={"Cookie": cookie}, base_url=base_url)

    def credentials(self, name: str, password: str = PASSWORD) -> dict[str, str]:
        return {"username": name, "password": password}

    def signed_in(
        self, name: str, address: str = "192.0.2.1"
    ) -> tuple[FlaskClient, dict[str, str]]:
        """Return a browser with a session, and the header that its pages send."""
        browser = self.browser(address)
        answer = browser.post("/api/v1/session", json=self.credentials(name))
        assert answer.status_code == 201, answer.get_json()
        return browser, {"X-CSRF-Token": answer.get_json()["csrf_token"]}

    def audited(self, action: str) -> list[dict[str, Any]]:
        context = self.restoring.context
        with context.transaction("a test") as conn:
            entries = context.store.read_stream(conn, "audit")
        return [e.data for e in entries if e.data["api"]["operation"] == action]

    def with_settings(self, **changes: Any) -> Access:
        settings = self.access.settings.model_copy(update=changes)
        return replace(self.access, settings=settings)


def _add_routes(app: Flask) -> None:
    @app.get("/created")
    @requires("create")
    def look() -> Response:
        return jsonify(done=True)

    @app.post("/created")
    @requires("create")
    def create() -> Response:
        return jsonify(done=True)
