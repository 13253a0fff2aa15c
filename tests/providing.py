"""Doors with a real OpenID Connect provider behind them, and a browser's way there and back.

doors = doors_with_provider(postgres, oidc, folder)
came_back(browser, oidc.come_back(began(browser), new_name(doors)))
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from flask.testing import FlaskClient

from serving.access.oidc_routes import BACKUPS, Ways, create_oidc_routes
from serving.access.provider import Provider
from shared.settings import WebSettings
from tests.accessing import Doors
from tests.plugins.oidc import TestProvider
from tests.plugins.postgres import TestPostgres

WEB = WebSettings(backup_url="http://localhost:1", restore_url="http://localhost:2")
WAYS = Ways(BACKUPS, WEB)
# Of the place: both services have it.
KEY = bytes(range(32))


def doors_with_provider(postgres: TestPostgres, oidc: TestProvider, folder: Path) -> Doors:
    """Return a place whose sign-in leads to ``oidc``."""
    doors = Doors.create(postgres, folder)
    provider = Provider(oidc.settings(folder))
    doors.app.register_blueprint(
        create_oidc_routes(doors.access, KEY, provider, WAYS, lambda _: None)
    )
    return doors


def as_new(doors: Doors) -> None:
    """Forget what other tests have counted."""
    doors.execute("DELETE FROM access.attempts")
    # The provider's clock is the machine's.
    doors.clock.time = datetime.now(UTC)


def new_name(doors: Doors, *permissions: str) -> str:
    name = f"u{uuid4().hex[:10]}"
    doors.add_user(name, *permissions, password=None)
    return name


def began(browser: FlaskClient, query: str = "") -> str:
    answer = browser.get(f"/api/v1/session/oidc{query}")
    assert answer.status_code == 303
    return answer.headers["Location"]


def came_back(browser: FlaskClient, target: str) -> Any:
    found = urlsplit(target)
    return browser.get(f"{found.path}?{found.query}")


def session_of(browser: FlaskClient) -> dict[str, Any]:
    shown: dict[str, Any] = browser.get("/api/v1/session").get_json()
    return shown


def begins(doors: Doors, name: str) -> int:
    """Return how many sessions of that user were ever begun."""
    (row,) = doors.rows("SELECT count(*) FROM access.sessions WHERE username = %s", name)
    return int(row[0])


def cookie_of(doors: Doors, browser: FlaskClient, purpose: str) -> Any:
    return browser.get_cookie(f"secryn-{purpose}-{doors.access.instance_id.hex[:12]}")
