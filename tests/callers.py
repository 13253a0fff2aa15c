"""Both services' applications over one place, and every kind of caller that may knock.

house = House.create(postgres, tmp_path)          # users, tokens, a receipt
empty = House.create(postgres, tmp_path, empty=True)     # nobody yet: a bootstrap credential
house.callers()                                   # by name: what each sends
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
from flask import Flask

from backup_service.api import application as backup_application
from backup_service.context import BackupContext
from restore_service import events as ev
from restore_service.api import application as restore_application
from serving.access import Access
from serving.access.attempts import attempt_of, count_attempt
from serving.access.bootstrap import read_credential
from serving.access.cookies import CSRF_HEADER, cookie_name
from serving.access.people import person_named
from serving.access.sessions import begin_session
from serving.access.settings import OidcSettings
from serving.access.tokens import NewToken, create_token, revoke_token
from serving.app import Readiness
from serving.audit import RefusalAudit
from serving.caller import PERMISSIONS
from serving.requester import Requester
from shared.eventstore import NewEvent
from shared.messages.topics import RESTORE_EVENTS
from shared.secretfiles import write_secret_file
from tests.clock import HandClock
from tests.keeping import offline_context
from tests.plugins.postgres import TestPostgres
from tests.restoring import Restoring
from tests.serving_api import board_of

Headers = dict[str, str]
TOKEN_PERMISSIONS: Final = sorted(PERMISSIONS - {"approve"})
BOOTSTRAP_TOKEN: Final = "the bootstrap credential"
RECEIPT_SECRET: Final = "the receipt's secret"


# A provider that does not answer: its routes are there all the same.
NOWHERE: Final = OidcSettings(
    issuer="http://127.0.0.1:1",
    client_id="secryn",
    redirect_url="http://localhost/api/v1/session/oidc/callback",
)


@dataclass
class House:
    """One place with both applications."""

    restoring: Restoring
    backup: BackupContext
    clock: HandClock
    access: Access
    apps: dict[str, Flask]
    restore_id: str
    stack: ExitStack
    tokens: dict[str, str] = field(default_factory=dict)

    @classmethod
    def create(cls, postgres: TestPostgres, folder: Path, *, empty: bool = False) -> House:
        folder.mkdir(exist_ok=True)
        clock = HandClock()
        made_at = clock.now().isoformat()
        write_secret_file(folder / "bootstrap", f"{BOOTSTRAP_TOKEN}\n{made_at}\n".encode())
        restoring = Restoring.create(postgres, folder)
        (folder / "backup").mkdir()
        backup = offline_context(restoring.place.dsn("secryn_backup"), folder / "backup", clock)
        stack = ExitStack()
        stack.callback(backup.pool.close)
        stack.callback(restoring.context.pool.close)
        access = restore_application.access_of(restoring.context, clock)
        access = replace(access, settings=access.settings.model_copy(update={"oidc": NOWHERE}))
        of_backup = replace(
            backup_application.access_of(backup),
            settings=access.settings,
            instance_id=access.instance_id,
            bootstrap_file=access.bootstrap_file,
        )
        apps = {
            "backup": backup_application.create_http(
                backup, of_backup, Readiness(), RefusalAudit(backup.record), board_of(backup)
            ),
            "restore": restore_application.create_http(
                restoring.context,
                access,
                Readiness(),
                RefusalAudit(restoring.context.record),
                board_of(restoring.context),
            ),
        }
        restore_id = str(uuid4())
        asked = {
            "restore_id": restore_id, "command_id": str(uuid4()), "backup_id": str(uuid4()),
            "upload_id": None, "target_instance_id": str(uuid4()), "key_fingerprint": None,
            "reason": "a test", "runner": restoring.context.runner,
            "receipt_sha256": hashlib.sha256(RECEIPT_SECRET.encode()).hexdigest(),
        }  # fmt: skip
        restoring.append(restore_id, NewEvent(ev.REQUESTED, asked, RESTORE_EVENTS))
        made = cls(restoring, backup, clock, access, apps, restore_id, stack)
        if not empty:
            made.settle()
        return made

    def settle(self) -> None:
        """Add a person and a token for each permission, and those that open nothing any more."""
        several = [(name, PERMISSIONS) for name in ("everything", "disabled", "locked")]
        for name, held in [(p, [p]) for p in sorted(PERMISSIONS)] + several:
            self._add_person(name, sorted(held))
        self.execute("UPDATE instance.users SET enabled = false WHERE username = 'disabled'")
        for permission in TOKEN_PERMISSIONS:
            self.add_token(permission, frozenset({permission}))
        everything = frozenset(TOKEN_PERMISSIONS)
        self.add_token("unattended", everything, unattended=True)
        self.add_token("revoked", everything, unattended=True)
        self.add_token("expired", everything, unattended=True, lifetime=timedelta(minutes=1))
        maker = _operator(self.clock)
        revoke_token(self.access, "revoked", maker)
        self.clock.pass_(minutes=2)

    def lock(self, name: str) -> None:
        """Let somebody guess at an account from the address of every test client, until both wait.

        The account waits there for longer than the clock of a test goes on, and the address, too.
        """
        tried = attempt_of(f"user:{name}", "127.0.0.1")
        later = self.clock.now() + timedelta(days=1)
        with self.access.transaction("a test") as conn:
            count_attempt(conn, tried, self.clock.now())
            conn.execute("UPDATE access.attempts SET blocked_until = %s", (later,))

    def execute(self, statement: str, *values: Any) -> None:
        with psycopg.connect(self.restoring.place.dsn(), autocommit=True) as conn:
            conn.execute(statement.encode(), values)

    def _add_person(self, name: str, permissions: list[str]) -> None:
        user, role = uuid4(), uuid4()
        self.execute(
            "INSERT INTO instance.users VALUES (%s, %s, %s, '', 'x', true, now(), now())",
            user, name, name,
        )  # fmt: skip
        self.execute("INSERT INTO instance.roles VALUES (%s, %s, '', now())", role, name)
        for permission in permissions:
            self.execute(
                "INSERT INTO instance.role_permissions VALUES (%s, %s)",
                role, f"backup.{permission}",
            )  # fmt: skip
        self.execute(
            "INSERT INTO instance.role_bindings VALUES (%s, %s, %s, 'instance', NULL, now(), '')",
            uuid4(), role, user,
        )  # fmt: skip

    def add_token(
        self,
        name: str,
        permissions: frozenset[str],
        *,
        unattended: bool = False,
        lifetime: timedelta = timedelta(days=1),
    ) -> None:
        wanted = NewToken(name, permissions, lifetime, unattended)
        self.tokens[name] = create_token(self.access, wanted, _operator(self.clock))["token"]

    # What each caller sends

    def bearer(self, token: str) -> Headers:
        return {"Authorization": f"Bearer {token}"}

    def session(
        self,
        name: str,
        *,
        age_s: int = 0,
        because: str | None = None,
        idle_s: int = 0,
        open_s: int = 0,
    ) -> Headers:
        """Return the cookie and the CSRF token of a new session that was proven ``age_s`` ago.

        It was last used ``idle_s`` ago, and began ``open_s`` ago.
        """
        with self.access.transaction("a test") as conn:
            who = (
                read_credential(self.access.bootstrap_file)
                if name == "bootstrap" else person_named(conn, name)
            )  # fmt: skip
            assert who is not None
            value, session = begin_session(
                self.access, conn, who, "bootstrap" if name == "bootstrap" else "password"
            )
            conn.execute(
                "UPDATE access.sessions SET proven_at = proven_at - make_interval(secs => %s), "
                "last_seen_at = last_seen_at - make_interval(secs => %s), "
                "created_at = created_at - make_interval(secs => %s), "
                "ended_because = %s, ended_at = CASE WHEN %s::text IS NOT NULL THEN now() END "
                "WHERE session_id = %s",
                (age_s, idle_s, open_s, because, because, session.session_id),
            )
        cookie = f"{cookie_name('session', self.access.instance_id, secure=False)}={value}"
        return {"Cookie": cookie, CSRF_HEADER: session.csrf_token}

    def call(self, service: str, method: str, path: str, headers: Headers) -> Any:
        client = self.apps[service].test_client(use_cookies=False)
        return client.open(path, method=method, headers=headers, json=["none of ours"])

    def routes(self, service: str) -> Iterator[tuple[str, str]]:
        """Yield every method and rule that the application answers."""
        for rule in self.apps[service].url_map.iter_rules():
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield method, rule.rule

    def path_of(self, rule: str) -> str:
        """Return an address of that rule: of the one restore there is, and of nothing else."""
        filled = rule.replace("<restore_id>", self.restore_id)
        while "<" in filled:
            before, _, rest = filled.partition("<")
            filled = f"{before}{UUID(int=7)}{rest.partition('>')[2]}"
        return filled

    def callers(self) -> dict[str, Callable[[], Headers]]:
        """Return the callers of a place with people in it."""
        found: dict[str, Callable[[], Headers]] = {
            "nobody": dict,
            "junk": lambda: self.bearer("junk"),
            "operator": lambda: self.bearer("token"),
            "receipt": lambda: self.bearer(f"secryn-receipt.{self.restore_id}.{RECEIPT_SECRET}"),
            "wrong receipt": lambda: self.bearer(f"secryn-receipt.{self.restore_id}.x"),
            "spent bootstrap": lambda: self.bearer(BOOTSTRAP_TOKEN),
            "ended session": lambda: self.session("everything", because="signed_out"),
            "disabled session": lambda: self.session("disabled"),
            "idle session": lambda: self.session("everything", idle_s=30 * 60),
            "expired session": lambda: self.session("everything", open_s=12 * 3600),
            "locked session": lambda: self.session("locked"),
            "old proof": lambda: self.session("everything", age_s=301),
        }
        for permission in sorted(PERMISSIONS):
            found[f"session {permission}"] = lambda p=permission: self.session(p)  # type: ignore[misc]
        for name, token in self.tokens.items():
            found[f"token {name}"] = lambda t=token: self.bearer(t)  # type: ignore[misc]
        return found


def _operator(clock: HandClock) -> Requester:
    return Requester("operator", PERMISSIONS, "test", "corr-1", proven_at=clock.now())
