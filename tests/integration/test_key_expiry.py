"""A key that nobody views: warned of twice, expired once, gone; and never the last that opens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from prometheus_client import CollectorRegistry, generate_latest

from backup_service import events as ev
from backup_service.context import SERVICE, BackupContext
from backup_service.handlers.view_key import ViewKey, view_key
from backup_service.handlers.watch_keys import tidy_keys, watch_keys
from backup_service.keys.overview import KeyMetrics, show_keys
from serving.requester import Requester
from shared.archive.age import HybridIdentity, open_sealed
from shared.errors import KeyAlreadyViewed, KeyExpired, KeyUnreadable
from shared.eventstore import NewEvent, StoredEvent
from tests.clock import HandClock
from tests.keeping import KEY, append, created, offline_context, own, running
from tests.plugins.postgres import TestPostgres

HOUR_S = 3600
VIEWER = Requester("anna", frozenset({"view_key"}), "test", "corr-2", unattended=True)


@dataclass
class Keeping:
    """Two replicas on one place, and the one clock of both."""

    clock: HandClock
    replicas: tuple[BackupContext, BackupContext]

    @property
    def context(self) -> BackupContext:
        return self.replicas[0]

    def watch(self) -> None:
        """Have both replicas look at once."""
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(watch_keys, self.replicas))

    def pass_(self, hours: float) -> None:
        """Let hours pass, a look at a time."""
        self.reach(self.clock.time + timedelta(hours=hours))

    def reach(self, end: datetime) -> None:
        ahead = end - self.clock.time
        step = timedelta(hours=3) if ahead < timedelta(days=10) else ahead / 16
        while self.clock.time < end:
            self.clock.time = min(end, self.clock.time + step)
            self.watch()

    def newer(self) -> str:
        """Make a newer backup that can be opened."""
        self.clock.pass_(seconds=1)
        return own(self.context)

    def told(self, kind: str, backup_id: str) -> list[StoredEvent]:
        with self.context.pool.connection() as conn:
            stream = self.context.store.read_stream(conn, ev.stream_of(backup_id))
        return [event for event in stream if event.type == kind]

    def facts(self, backup_id: str) -> dict[str, object]:
        with self.context.pool.connection() as conn:
            return self.context.history.get(conn, backup_id)

    def warned(self, backup_id: str) -> list[int]:
        return [e.data["warned_before_s"] for e in self.told(ev.KEY_EXPIRING, backup_id)]

    def view(self, backup_id: str, replica: int = 0) -> str:
        identity = HybridIdentity.generate()
        command = ViewKey(request_id=uuid4(), recipient=identity.to_recipient().encode())
        answer = view_key(self.replicas[replica], backup_id, command, VIEWER)
        return open_sealed(bytes.fromhex(answer["sealed_key"]), [identity], 65536).decode()

    def keks(self) -> set[str]:
        return {path.name for path in self.context.settings.keys.folder.iterdir()}


@pytest.fixture
def keeping(postgres: TestPostgres, tmp_path: Path) -> Iterator[Keeping]:
    dsn, clock = postgres.fresh_place().dsn("secryn_backup"), HandClock()
    made = Keeping(
        clock, (offline_context(dsn, tmp_path, clock), offline_context(dsn, tmp_path, clock))
    )
    yield made
    for replica in made.replicas:
        replica.pool.close()


def test_it_is_warned_of_at_48_and_at_6_hours_once_each_and_expires_at_seven_days(
    keeping: Keeping,
) -> None:
    backup_id = created(keeping.context)
    expires_at = keeping.clock.time + timedelta(days=7)
    keeping.newer()
    assert keeping.facts(backup_id)["key_expires_at"] == expires_at.isoformat()
    keeping.reach(expires_at - timedelta(hours=48, seconds=1))
    assert keeping.warned(backup_id) == []
    keeping.reach(expires_at - timedelta(hours=48))
    assert keeping.warned(backup_id) == [48 * HOUR_S]
    keeping.reach(expires_at - timedelta(hours=6))
    assert keeping.warned(backup_id) == [48 * HOUR_S, 6 * HOUR_S]
    keeping.reach(expires_at - timedelta(seconds=1))
    assert keeping.told(ev.KEY_EXPIRED, backup_id) == []
    keeping.reach(expires_at)
    (expired,) = keeping.told(ev.KEY_EXPIRED, backup_id)
    assert (expired.actor, expired.data["expired_at"]) == (SERVICE, expires_at.isoformat())
    assert keeping.warned(backup_id) == [48 * HOUR_S, 6 * HOUR_S]
    assert keeping.keks() == set()
    facts = keeping.facts(backup_id)
    assert (facts["key_state"], facts["key_expired_at"]) == ("expired", expires_at.isoformat())
    with pytest.raises(KeyExpired, match=re.escape(f"expired at {expires_at.isoformat()}")):
        keeping.view(backup_id)


def test_the_newest_key_waits_on_until_a_newer_backup_can_be_opened(keeping: Keeping) -> None:
    own(keeping.context)
    keeping.pass_(hours=1)
    older = created(keeping.context)
    keeping.pass_(hours=1)
    newest = created(keeping.context)
    keeping.pass_(hours=30 * 24)
    assert len(keeping.told(ev.KEY_EXPIRED, older)) == 1
    assert keeping.facts(newest)["key_state"] == "waiting"
    (waiting,) = show_keys(keeping.context)["waiting"]
    assert (waiting["backup_id"], waiting["held_over"], waiting["left_s"]) == (newest, True, 0)
    damaged = keeping.newer()
    outcome = {"intact": False, "code": "archive.altered", "message": "another"}
    append(keeping.context, damaged, NewEvent(ev.VERIFIED, {"outcome": outcome}))
    keeping.watch()
    assert keeping.facts(newest)["key_state"] == "waiting"
    keeping.clock.pass_(seconds=1)
    other = created(keeping.context)
    assert keeping.view(other) == KEY
    keeping.watch()
    assert len(keeping.told(ev.KEY_EXPIRED, newest)) == 1


def test_one_that_waits_past_its_time_is_still_given(keeping: Keeping) -> None:
    backup_id = created(keeping.context)
    keeping.pass_(hours=30 * 24)
    assert keeping.view(backup_id) == KEY
    keeping.watch()
    assert keeping.facts(backup_id)["key_state"] == "viewed"


def test_no_key_expires_unwarned_however_long_nobody_looked(keeping: Keeping) -> None:
    backup_id = created(keeping.context)
    keeping.newer()
    keeping.clock.pass_(days=400)
    keeping.watch()
    assert keeping.warned(backup_id) == [48 * HOUR_S, 6 * HOUR_S]
    until = keeping.clock.time + timedelta(hours=3)
    assert keeping.facts(backup_id)["key_expires_at"] == until.isoformat()
    keeping.reach(until - timedelta(seconds=1))
    assert keeping.facts(backup_id)["key_state"] == "waiting"
    keeping.reach(until)
    assert len(keeping.told(ev.KEY_EXPIRED, backup_id)) == 1


def test_a_warning_that_a_replica_has_forgotten_is_not_given_again(keeping: Keeping) -> None:
    backup_id = created(keeping.context)
    keeping.clock.pass_(hours=5 * 24)
    keeping.watch()
    with keeping.context.pool.connection() as conn:
        conn.execute("UPDATE backup.waiting_keys SET warnings_s = '{172800,21600}'")
    keeping.watch()
    assert keeping.warned(backup_id) == [48 * HOUR_S]


@pytest.mark.parametrize("attempt", range(4))
def test_viewed_or_expired_but_never_both(keeping: Keeping, attempt: int) -> None:
    backup_id = created(keeping.context)
    expires_at = keeping.clock.time + timedelta(days=7)
    keeping.newer()
    keeping.reach(expires_at - timedelta(seconds=1))
    keeping.clock.time = expires_at

    def view(number: int) -> str:
        try:
            return keeping.view(backup_id, number % 2)
        except (KeyExpired, KeyAlreadyViewed) as error:
            return error.code

    with ThreadPoolExecutor(6) as pool:
        looks = [pool.submit(watch_keys, replica) for replica in keeping.replicas]
        said = list(pool.map(view, range(attempt)))
        for look in looks:
            look.result()
    viewed = keeping.told(ev.KEY_VIEWED, backup_id)
    expired = keeping.told(ev.KEY_EXPIRED, backup_id)
    assert len(viewed) + len(expired) == 1
    assert said.count(KEY) == len(viewed)
    assert keeping.keks() == set()


def test_nothing_is_destroyed_whose_key_may_come_yet(keeping: Keeping) -> None:
    folder = keeping.context.settings.keys.folder
    unknown, going = str(uuid4()), running(keeping.context)
    ended, waiting = own(keeping.context), created(keeping.context)
    for name in (f"{unknown}.kek", f"{going}.kek", f"{ended}.kek", f".{ended}.kek.0a1b2c3d"):
        (folder / name).write_bytes(b"0" * 64)
    (folder / "a note of somebody").touch()
    tidy_keys(keeping.context)
    assert keeping.keks() == {
        f"{unknown}.kek", f"{going}.kek", f"{waiting}.kek", "a note of somebody",
    }  # fmt: skip


def test_a_key_whose_folder_is_away_is_not_given_up(keeping: Keeping) -> None:
    backup_id = created(keeping.context)
    kek = keeping.context.settings.keys.folder / f"{backup_id}.kek"
    content = kek.read_bytes()
    kek.unlink()
    with pytest.raises(KeyUnreadable, match=backup_id):
        keeping.view(backup_id)
    assert show_keys(keeping.context)["unreadable"] == 1
    kek.write_bytes(content)
    kek.chmod(0o600)
    assert keeping.view(backup_id) == KEY


def test_the_metrics_say_how_many_wait_until_when_and_how_many_nobody_saw(
    keeping: Keeping,
) -> None:
    registry = CollectorRegistry()
    registry.register(KeyMetrics(keeping.context))
    assert "secryn_backup_keys_waiting 0.0" in generate_latest(registry).decode()
    created(keeping.context)
    keeping.pass_(hours=100)
    created(keeping.context)
    keeping.pass_(hours=24)
    told = generate_latest(registry).decode()
    next_expiry = (keeping.clock.time + timedelta(hours=7 * 24 - 124)).timestamp()
    assert "secryn_backup_keys_waiting 2.0" in told
    assert 'secryn_backup_keys_expiring{within_hours="48"} 1.0' in told
    assert 'secryn_backup_keys_expiring{within_hours="6"} 0.0' in told
    assert _value(told, "secryn_backup_key_next_expiry_timestamp_seconds") == next_expiry
    keeping.pass_(hours=60 * 24)
    told = generate_latest(registry).decode()
    assert "secryn_backup_keys_held_over 1.0" in told
    assert "secryn_backup_keys_expired_unseen_total 1.0" in told


def _value(told: str, name: str) -> float:
    return float(next(line for line in told.splitlines() if line.startswith(f"{name} ")).split()[1])


def test_a_backup_that_is_no_more_takes_its_key_along(keeping: Keeping) -> None:
    backup_id = created(keeping.context)
    with keeping.context.pool.connection() as conn:
        keeping.context.keys.give_up(conn, UUID(backup_id))
    keeping.watch()
    assert keeping.keks() == set()
    assert show_keys(keeping.context)["count"] == 0


def test_the_clock_may_go_back(keeping: Keeping) -> None:
    backup_id = created(keeping.context)
    keeping.pass_(hours=5 * 24)
    keeping.clock.time = datetime.fromisoformat("2020-01-01T00:00:00+00:00")
    keeping.watch()
    assert keeping.warned(backup_id) == [48 * HOUR_S]
    assert keeping.view(backup_id) == KEY


@pytest.mark.parametrize("end", ["viewed", "expired"])
def test_nothing_that_is_left_on_the_machine_opens_it(
    keeping: Keeping, postgres: TestPostgres, end: str
) -> None:
    backup_id = created(keeping.context)
    keeping.newer()
    kek = bytes.fromhex(
        (keeping.context.settings.keys.folder / f"{backup_id}.kek").read_text(encoding="ascii")
    )
    with keeping.context.pool.connection() as conn:
        row = conn.execute("SELECT sealed_waiting FROM backup.waiting_keys").fetchone()
        (oid,) = conn.execute(
            "SELECT oid FROM pg_database WHERE datname = current_database()"
        ).fetchone() or (0,)
    assert row is not None
    sealed = bytes(row[0])
    assert AESGCM(kek).decrypt(sealed[:12], sealed[12:], UUID(backup_id).bytes) == KEY.encode()
    if end == "viewed":
        assert keeping.view(backup_id) == KEY
    else:
        keeping.pass_(hours=7 * 24)
    assert keeping.facts(backup_id)["key_state"] == end
    keeping.clock.pass_(minutes=11)
    keeping.watch()
    with psycopg.connect(postgres.dsn, autocommit=True) as conn:
        conn.execute("CHECKPOINT")
    data = postgres.data_folder()
    database = left_in(data / "base" / str(oid), data / "pg_wal")
    # PostgreSQL keeps what was deleted: the search looks where it would be.
    assert sealed in database
    on_the_machine = database + left_in(keeping.context.settings.keys.folder.parent)
    for secret in (kek, kek.hex().encode(), KEY.encode()):
        assert secret not in on_the_machine


def left_in(*folders: Path) -> bytes:
    """Return what all files in ``folders`` hold."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files
    return b"".join(path.read_bytes() for path in files)
