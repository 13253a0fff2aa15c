"""Every route of both services x every kind of caller, with what each is answered.

A new route has no row here, and this fails until it has one: its permission, written down a second
time. What views a key, restores, deletes or makes a token needs a proof that is not old.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from serving.caller import PERMISSIONS
from tests.callers import BOOTSTRAP_TOKEN, House
from tests.plugins.postgres import TestPostgres

ANYBODY: Final = "anybody"
ANY_CALLER: Final = "any caller"
WATCHERS: Final = ("restore", "approve")


@dataclass(frozen=True)
class Row:
    """Who may: a permission, or one of the two words above.

    ``proof``: only who has just proved who it is. ``receipt``: also the receipt of that restore.
    ``also``: other permissions that suffice.
    """

    who: str
    proof: bool = False
    receipt: bool = False
    also: tuple[str, ...] = ()


# What both services answer.
BOTH: Final = {
    "GET /healthz": Row(ANYBODY),
    "GET /readyz": Row(ANYBODY),
    "GET /metrics": Row("read"),
    "GET /api/v1/openapi.json": Row(ANY_CALLER),
    "GET /api/v1/asyncapi.json": Row(ANY_CALLER),
    "GET /api/v1/docs": Row(ANY_CALLER),
    "GET /api/v1/docs.css": Row(ANY_CALLER),
    "POST /api/v1/session": Row(ANYBODY),
    "POST /api/v1/session/bootstrap": Row(ANYBODY),
    "GET /api/v1/session": Row(ANY_CALLER),
    "DELETE /api/v1/session": Row(ANY_CALLER),
    "POST /api/v1/session/prove": Row(ANY_CALLER),
    "GET /api/v1/audit": Row("read_audit"),
    "GET /api/v1/audit/export": Row("read_audit"),
    "GET /api/v1/audit/verify": Row("read_audit"),
    "GET /api/v1/session/oidc": Row(ANYBODY),
    "GET /api/v1/session/oidc/callback": Row(ANYBODY),
}


def pages(prefix: str) -> dict[str, Row]:
    """Return what the pages of both services have in common."""
    return {
        "GET /": Row(ANYBODY),
        f"GET {prefix}/home": Row(ANY_CALLER),
        f"GET {prefix}/static/<name>": Row(ANYBODY),
        f"GET {prefix}/sign-in": Row(ANYBODY),
        f"POST {prefix}/sign-in": Row(ANYBODY),
        f"GET {prefix}/prove": Row(ANY_CALLER),
        f"POST {prefix}/prove": Row(ANY_CALLER),
        f"POST {prefix}/sign-out": Row(ANY_CALLER),
        f"GET {prefix}/audit": Row("read_audit"),
        f"GET {prefix}/audit/chain": Row("read_audit"),
        f"GET {prefix}/<path:rest>": Row(ANY_CALLER),
    }


ROWS: Final[dict[str, dict[str, Row]]] = {
    "backup": BOTH
    | pages("/admin")
    | {
        "GET /admin/": Row(ANY_CALLER),
        "GET /admin/schedule": Row("read"),
        "GET /admin/operations": Row("read"),
        "GET /admin/operations/list": Row("read"),
        "POST /admin/backups/<backup_id>/hold": Row("hold"),
        "POST /admin/backups/<backup_id>/release": Row("hold"),
        "POST /admin/backups/<backup_id>/delete": Row("delete", proof=True),
        "POST /admin/schedule": Row("configure"),
        "POST /admin/schedule/retention": Row("configure"),
        "POST /admin/schedule/confirm/<name>": Row("configure"),
        "GET /admin/backups": Row("read"),
        "GET /admin/first": Row(ANYBODY),
        "POST /admin/first": Row(ANYBODY),
        "GET /admin/first/administrator": Row("create_administrator"),
        "POST /admin/first/administrator": Row("create_administrator"),
        "POST /admin/backups": Row("create"),
        "GET /admin/backups/new": Row("create"),
        "GET /admin/backups/<backup_id>": Row("read"),
        "GET /admin/backups/<backup_id>/progress": Row("read"),
        "POST /admin/backups/<backup_id>/cancel": Row("create"),
        "POST /admin/backups/<backup_id>/verify": Row("read"),
        "GET /admin/backups/<backup_id>/key": Row("view_key"),
        "POST /admin/backups/<backup_id>/key": Row("view_key", proof=True),
        "POST /admin/backups/<backup_id>/key/file": Row("view_key"),
        "POST /admin/backups/<backup_id>/key/stored": Row("view_key"),
        "POST /api/v1/tokens": Row("configure", proof=True),
        "GET /api/v1/tokens": Row("configure"),
        "POST /api/v1/tokens/<name>/revoke": Row("configure"),
        "GET /api/v1/configuration/<name>": Row("read"),
        "PUT /api/v1/configuration/<name>": Row("configure"),
        "POST /api/v1/configuration/<name>/confirm": Row("configure"),
        "POST /api/v1/administrators": Row("create_administrator"),
        "POST /api/v1/backups": Row("create"),
        "GET /api/v1/backups": Row("read"),
        "GET /api/v1/backups/<backup_id>": Row("read"),
        "GET /api/v1/backups/<backup_id>/events": Row("read"),
        "POST /api/v1/backups/<backup_id>/cancel": Row("create"),
        "POST /api/v1/backups/<backup_id>/key": Row("view_key", proof=True),
        "POST /api/v1/backups/<backup_id>/verify": Row("read"),
        "GET /api/v1/backups/<backup_id>/content": Row("download"),
        "GET /api/v1/backups/<backup_id>/receipt": Row("download"),
        "POST /api/v1/backups/<backup_id>/adopt": Row("configure"),
        "GET /api/v1/keys": Row("read"),
        "POST /api/v1/backups/<backup_id>/key/stored": Row("view_key"),
        "GET /api/v1/schedule": Row("read"),
        "POST /api/v1/schedule/run": Row("create"),
        "GET /api/v1/protection": Row("read"),
        "POST /api/v1/backups/<backup_id>/hold": Row("hold"),
        "POST /api/v1/backups/<backup_id>/release": Row("hold"),
        "POST /api/v1/backups/<backup_id>/delete": Row("delete", proof=True),
        "GET /api/v1/backups.csv": Row("read"),
        "GET /api/v1/history/rebuild": Row("read"),
        "POST /api/v1/history/rebuild": Row("configure"),
        "POST /api/v1/storage/check": Row("read"),
        "GET /api/v1/operations": Row("read"),
        "GET /api/v1/operations/changes": Row("read"),
        "GET /api/v1/operations/events": Row("read"),
        "GET /api/v1/retention/preview": Row("read"),
        "POST /api/v1/retention/preview": Row("read"),
        "POST /api/v1/retention/runs": Row("delete", proof=True),
        "GET /api/v1/retention/runs/<run_id>": Row("read"),
        "GET /api/v1/retention/runs/<run_id>/events": Row("read"),
        "GET /api/v1/receipts": Row("read"),
        "GET /api/v1/instance": Row("read"),
        "GET /api/v1/instance/digest": Row("read"),
        "POST /api/v1/instance/adopt-log": Row("restore"),
        "POST /api/v1/instance/skip-event": Row("restore"),
        "GET /api/v1/status": Row("read"),
    },
    "restore": BOTH
    | pages("/admin/restore")
    | {
        "GET /admin/restore/": Row("restore", also=("approve",)),
        "GET /admin/restore/check": Row("restore"),
        "POST /admin/restore/upload": Row("restore"),
        "POST /admin/restore/check": Row("restore", proof=True),
        "POST /admin/restore/check/again": Row("restore"),
        "GET /admin/restore/previews/<preview_id>": Row("restore"),
        "POST /admin/restore/start": Row("restore", proof=True),
        "POST /admin/restore/rehearse": Row("restore"),
        "GET /admin/restore/restores/<restore_id>": Row("read", receipt=True, also=WATCHERS),
        "GET /admin/restore/restores/<restore_id>/progress": Row(
            "read", receipt=True, also=WATCHERS
        ),
        "POST /admin/restore/restores/<restore_id>/cancel": Row("restore"),
        "POST /admin/restore/restores/<restore_id>/undo": Row("restore", proof=True, receipt=True),
        "POST /admin/restore/restores/<restore_id>/approve": Row("approve"),
        "POST /admin/restore/restores/<restore_id>/begin": Row("restore", proof=True),
        "GET /admin/restore/rehearsals/<rehearsal_id>": Row("read", also=WATCHERS),
        "GET /admin/restore/rehearsals/<rehearsal_id>/progress": Row("read", also=WATCHERS),
        "POST /admin/restore/rehearsals/<rehearsal_id>/cancel": Row("restore"),
        "GET /api/v1/recipient": Row("read", also=("restore",)),
        "PUT /api/v1/uploads/<upload_id>": Row("restore"),
        "PATCH /api/v1/uploads/<upload_id>": Row("restore"),
        "GET /api/v1/uploads/<upload_id>": Row("restore"),
        "DELETE /api/v1/uploads/<upload_id>": Row("restore"),
        "POST /api/v1/restores": Row("restore", proof=True),
        "GET /api/v1/restores": Row("read", also=WATCHERS),
        "GET /api/v1/restores/<restore_id>": Row("read", receipt=True, also=WATCHERS),
        "GET /api/v1/restores/<restore_id>/events": Row("read", receipt=True, also=WATCHERS),
        "POST /api/v1/restores/<restore_id>/approve": Row("approve"),
        "POST /api/v1/restores/<restore_id>/cancel": Row("restore"),
        "POST /api/v1/restores/<restore_id>/reapply": Row("restore"),
        "POST /api/v1/restores/<restore_id>/start": Row("restore", proof=True),
        "GET /api/v1/restores/<restore_id>/voided": Row("read", also=WATCHERS),
        "POST /api/v1/undos": Row("restore", proof=True, receipt=True),
        "POST /api/v1/previews": Row("restore"),
        "GET /api/v1/previews/<preview_id>": Row("restore"),
        "GET /api/v1/previews/<preview_id>/events": Row("restore"),
        "GET /api/v1/space": Row("read", also=("restore",)),
        "GET /api/v1/stray-states": Row("read"),
        "POST /api/v1/stray-states/<restore_id>/drop": Row("restore", proof=True),
        "POST /api/v1/rehearsals": Row("restore"),
        "GET /api/v1/rehearsals": Row("read", also=WATCHERS),
        "GET /api/v1/rehearsals/schedule": Row("read"),
        "GET /api/v1/rehearsals/<rehearsal_id>": Row("read", also=WATCHERS),
        "GET /api/v1/rehearsals/<rehearsal_id>/events": Row("read", also=WATCHERS),
        "POST /api/v1/rehearsals/<rehearsal_id>/cancel": Row("restore"),
        "GET /api/v1/approval-policy": Row("configure"),
        "POST /api/v1/approval-policy": Row("configure"),
        "POST /api/v1/approval-policy/changes/<change_id>/approve": Row("approve"),
    },
}
CASES: Final = [(service, route) for service, rows in ROWS.items() for route in rows]

IN, STRANGER, FORBIDDEN, UNPROVEN = "in", "unauthenticated", "forbidden", "unproven"


@pytest.fixture(scope="module", autouse=True)
def without_a_log() -> Iterator[None]:
    """What waits for a log that is not there answers at once: it is behind the door already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backup_service.api.routes.show_status", lambda _: {})
        yield


@pytest.fixture(scope="module")
def house(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House.create(postgres, tmp_path_factory.mktemp("house"))
    made.lock("locked")
    with made.stack:
        yield made


@pytest.fixture(scope="module")
def empty(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House.create(postgres, tmp_path_factory.mktemp("empty"), empty=True)
    made.add_token("guest", PERMISSIONS - {"approve"}, unattended=True)
    with made.stack:
        yield made


def outcome(answer: Any) -> str:
    """Return what a caller was told; whatever a view itself says is ``in``."""
    if answer.mimetype == "text/html":
        return _outcome_of_page(answer)
    code = (answer.get_json(silent=True) or {}).get("code", "")
    if answer.status_code == 401 and code in {"access.unauthenticated", "access.session_ended"}:
        return STRANGER
    if code == "access.proof_needed":
        return UNPROVEN
    if code in {"access.denied", "access.bootstrap_spent", "access.cross_site"}:
        return FORBIDDEN
    # The view of a sign-in has its own 401, for whoever knows no password.
    refused = code != "access.sign_in_refused" and answer.status_code in {401, 403, 500}
    assert not refused, answer.get_json()
    return IN


def _outcome_of_page(answer: Any) -> str:
    door = answer.headers.get("Location", "")
    if "/sign-in?next=" in door:
        return STRANGER
    text = answer.get_data(as_text=True)
    if "/prove?next=" in door or (answer.status_code == 403 and "access.proof_needed" in text):
        return UNPROVEN
    assert answer.status_code != 500, text
    return FORBIDDEN if answer.status_code == 403 else IN


def expected(service: str, row: Row, caller: str) -> str:
    """Return what ``caller`` must be told, from the row alone."""
    if row.who == ANYBODY:
        return IN
    kind, _, held = caller.partition(" ")
    if caller in {"nobody", "junk", "wrong receipt"}:
        return STRANGER
    if caller in {"ended session", "disabled session", "idle session", "expired session"}:
        return STRANGER
    if caller in {"token revoked", "token expired", "token another's"}:
        return STRANGER
    if caller == "spent bootstrap":
        return FORBIDDEN
    allowed, proven = _rights(kind, held, caller)
    if caller == "receipt" and service == "backup":
        return STRANGER
    if caller == "receipt":
        return IN if row.receipt or row.who == ANY_CALLER else FORBIDDEN
    if row.who != ANY_CALLER and allowed.isdisjoint({row.who, *row.also}):
        return FORBIDDEN
    return UNPROVEN if row.proof and not proven else IN


def _rights(kind: str, held: str, caller: str) -> tuple[frozenset[str], bool]:
    if caller == "operator":
        return PERMISSIONS | {"create_administrator"}, True
    if caller == "locked session":
        return PERMISSIONS, True
    if caller == "old proof":
        return PERMISSIONS, False
    if caller == "token unattended":
        return PERMISSIONS - {"approve"}, True
    if kind == "bootstrap":
        return frozenset({"read", "restore", "create_administrator"}), True
    return frozenset({held}), kind == "session"


@pytest.mark.parametrize("service", sorted(ROWS))
def test_every_route_has_its_row(house: House, service: str) -> None:
    assert {f"{method} {rule}" for method, rule in house.routes(service)} == set(ROWS[service])


@pytest.mark.parametrize(("service", "route"), CASES)
def test_a_route_lets_in_who_its_row_says_and_nobody_else(
    house: House, empty: House, service: str, route: str
) -> None:
    method, _, rule = route.partition(" ")
    row, path = ROWS[service][route], house.path_of(rule)
    callers = house.callers() | {"token another's": lambda: house.bearer(empty.tokens["guest"])}
    told = {
        name: outcome(house.call(service, method, path, enter())) for name, enter in callers.items()
    }
    assert told == {name: expected(service, row, name) for name in told}


@pytest.mark.parametrize(("service", "route"), CASES)
def test_a_place_without_users_lets_in_its_bootstrap_credential(
    empty: House, service: str, route: str
) -> None:
    method, _, rule = route.partition(" ")
    row, path = ROWS[service][route], empty.path_of(rule)
    callers = {
        "nobody": {},
        "operator": empty.bearer("token"),
        "bootstrap token": empty.bearer(BOOTSTRAP_TOKEN),
        "bootstrap session": empty.session("bootstrap"),
    }
    told = {
        name: outcome(empty.call(service, method, path, headers))
        for name, headers in callers.items()
    }
    assert told == {name: expected(service, row, name) for name in told}
