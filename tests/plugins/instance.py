"""An instance of one test: a log, a store, a writer, a signer of restore events, projectors.

def test_it(new_instance):
    instance = new_instance()                # topics and an empty database of its own
    with instance.projector():               # in a thread; instance.process() is a real one
        written = instance.writer.append(ProjectCreated(...))
        instance.wait_stored(written.offset)
    instance.started(1); instance.restored(...)   # restore events, signed
    instance.cut_over(position)              # what a restore does to the schemas
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import tomli_w
from psycopg import sql

from backup_service.projector.loop import Projector
from backup_service.projector.settings import FoldSettings
from backup_service.projector.status import ProjectorStatus, Snapshot
from deploy.embedded.process import free_ports
from shared.database import Pool, open_pool
from shared.instance.events import RestoreAborted, Restored, RestoreStarted, encode
from shared.instance.fold import LoggedEvent
from shared.instance.keyring import RootKey
from shared.instance.migrate import create_constraints, create_indexes, create_tables
from shared.instance.position import LogPosition, read_position, write_position
from shared.instance.reading import ANNOUNCE, read_record
from shared.instance.writer import InstanceWriter
from shared.kafka import Kafka, OutgoingMessage, Producer
from shared.messages import CloudEvent, Issuer, IssuerRegistry, SigningKey, sign
from shared.messages.topics import INSTANCE_EVENTS, ensure_topics
from shared.secretfiles import write_secret_file
from shared.settings import KafkaSettings, PostgresSettings
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres

ISSUER = "restore_service"
WAIT_S = 20.0


def eventually(holds: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """Return the first true answer of ``holds``; fail the test when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.02)
    pytest.fail(f"not in {timeout_s:.0f} s: {what}")


@dataclass
class RunningProjector:
    """A projector in a thread of the test."""

    status: ProjectorStatus
    stop: threading.Event
    thread: threading.Thread

    @property
    def now(self) -> Snapshot:
        return self.status.snapshot()

    def wait_stopped(self) -> Snapshot:
        """Wait until it applies nothing any more, and return what it says."""
        eventually(lambda: self.now.stopped, "the projector stops")
        return self.now


@dataclass
class ProjectorProcess:
    """`python -m backup_service.projector` as a process."""

    process: subprocess.Popen[bytes]
    url: str
    token: str
    log: Path

    def get(self, path: str, *, token: bool = True) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if token else {}
        return httpx.get(self.url + path, headers=headers, timeout=5)

    def ready(self) -> bool:
        try:
            return self.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False


@dataclass
class TestInstance:
    """One instance and everything that acts on it."""

    __test__ = False

    folder: Path
    dsn: str
    settings: KafkaSettings
    kafka: Kafka
    pool: Pool
    root_key: RootKey
    signer: SigningKey
    stack: ExitStack
    producer: Producer = field(init=False)
    writer: InstanceWriter = field(init=False)

    def __post_init__(self) -> None:
        self.producer = self.stack.enter_context(self.kafka.producer())
        self.writer = self.stack.enter_context(self.new_writer())

    @property
    def topic(self) -> str:
        return self.kafka.topic(INSTANCE_EVENTS)

    @property
    def issuers(self) -> IssuerRegistry:
        return IssuerRegistry({ISSUER: Issuer(ISSUER, self.signer.public, frozenset({ANNOUNCE}))})

    def new_writer(self, actor: str = "tester") -> InstanceWriter:
        return InstanceWriter(self.kafka, self.pool, self.root_key, source="test", actor=actor)

    # The projector

    @contextmanager
    def projector(
        self, dsn: str | None = None, batch_events: int = 500
    ) -> Iterator[RunningProjector]:
        """Run a projector in a thread, on this store or on the one at ``dsn``."""
        status, stop = ProjectorStatus(), threading.Event()
        projector = Projector(
            self.kafka,
            PostgresSettings(dsn=dsn or self.dsn),
            self.issuers,
            status,
            FoldSettings(batch_events=batch_events, poll_timeout_s=0.1),
        )
        thread = threading.Thread(target=projector.run, args=(stop,), daemon=True)
        thread.start()
        running = RunningProjector(status, stop, thread)
        try:
            eventually(lambda: running.now.position or running.now.stopped, "the projector begins")
            yield running
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()

    @contextmanager
    def process(
        self, dsn: str | None = None, batch_events: int = 500
    ) -> Iterator[ProjectorProcess]:
        """Run a projector as a process of its own and wait until it is ready."""
        config, port, token = self.write_config(dsn or self.dsn, batch_events)
        log = self.folder / f"projector-{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "backup_service.projector", "--config", str(config)],
                stdout=output,
                stderr=output,
                cwd=Path(__file__).parents[2],
                env={k: v for k, v in os.environ.items() if not k.startswith("SECRYN_")},
            )
        running = ProjectorProcess(process, f"http://127.0.0.1:{port}", token, log)
        try:
            eventually(
                lambda: running.ready() or process.poll() is not None, "the process is ready"
            )
            assert process.poll() is None, log.read_text()
            yield running
        finally:
            process.kill()
            process.wait()

    def write_config(self, dsn: str, batch_events: int = 500) -> tuple[Path, int, str]:
        """Write a process's settings; return their file, its port and its token."""
        (port,) = free_ports(1)
        token = secrets.token_urlsafe(16)
        files = {name: self.folder / f"{name}-{port}" for name in ("token", "issuers", "config")}
        write_secret_file(files["token"], token.encode())
        issuers = {ISSUER: {"public_key": self.signer.public.raw.hex(), "permissions": [ANNOUNCE]}}
        write_secret_file(files["issuers"], tomli_w.dumps(issuers).encode())
        unused = str(self.folder / "not-there")
        document = {
            "postgres": {"dsn": dsn},
            "kafka": self.settings.model_dump(mode="json", exclude_none=True),
            "place": {
                "instance_id": str(uuid4()),
                "root_key_file": unused,
                "signing_key_file": unused,
                "trusted_signers_file": unused,
                "issuers_file": str(files["issuers"]),
            },
            "http": {"port": port, "token_file": str(files["token"])},
            "fold": {"batch_events": batch_events, "poll_timeout_s": 0.1},
        }
        write_secret_file(files["config"], tomli_w.dumps(document).encode())
        return files["config"], port, token

    # The store

    def position(self, dsn: str | None = None) -> LogPosition:
        with psycopg.connect(dsn or self.dsn) as conn:
            return read_position(conn)

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as conn:
            return conn.execute(query.encode(), parameters).fetchall()

    def wait_stored(self, offset: int, dsn: str | None = None) -> LogPosition:
        """Wait until the store's position is past ``offset``."""

        def stored() -> LogPosition | None:
            row = self.position(dsn)
            return row if row.position > offset else None

        found: LogPosition = eventually(stored, f"offset {offset} is stored")
        return found

    def cut_over(self, fence: LogPosition) -> None:
        """Replace the store by an empty one at F+1, E+1 behind the same fence, as a restore does."""
        with psycopg.connect(self.dsn) as conn:
            create_tables(conn, "staging")
            create_indexes(conn, "staging")
            create_constraints(conn, "staging")
            write_position(conn, replace(fence, epoch=fence.epoch + 1), "staging")
            tables = sql.SQL(", ").join(
                sql.Identifier("instance", name)
                for (name,) in conn.execute(
                    "SELECT tablename FROM pg_tables WHERE schemaname = 'instance'"
                )
            )
            conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(tables))
            conn.execute("ALTER SCHEMA instance RENAME TO instance_before")
            conn.execute("ALTER SCHEMA staging RENAME TO instance")

    # The log

    def send(self, message: OutgoingMessage) -> int:
        return self.producer.send_sync(self.topic, message)

    def announce(
        self, event: RestoreStarted | Restored | RestoreAborted, key: SigningKey | None = None
    ) -> int:
        """Append a restore event, signed by the restore service or by ``key``; return its offset."""
        message = CloudEvent(type=event.TYPE, source="/secryn/restore", data=encode(event))
        return self.send(sign(message, key or self.signer, ISSUER).to_kafka())

    def started(self, fence_no: int, restore_id: UUID, key: SigningKey | None = None) -> int:
        event = RestoreStarted(restore_id=restore_id, fence_no=fence_no, backup_id=uuid4())
        return self.announce(event, key)

    def aborted(self, fence_no: int, restore_id: UUID) -> int:
        return self.announce(
            RestoreAborted(restore_id=restore_id, fence_no=fence_no, reason="a test")
        )

    def restored(self, fence: LogPosition, *, backup_id: UUID | None = None) -> int:
        """Append the Restored that closes the fence of ``fence``."""
        assert fence.fence_no is not None
        assert fence.fence_restore_id is not None
        assert fence.fence_offset is not None
        return self.announce(
            Restored(
                restore_id=fence.fence_restore_id,
                fence_no=fence.fence_no,
                fence_offset=fence.fence_offset,
                epoch=fence.epoch + 1,
                backup_id=backup_id or uuid4(),
                undo_of=uuid4(),
            )
        )

    def read_log(self, epoch: int = 1) -> list[LoggedEvent]:
        """Return every event of ``epoch`` on the log, as a follower reads it."""
        with self.kafka.admin() as admin, self.kafka.log_reader(self.topic) as reader:
            end = admin.last_stable_offset(self.topic)
            found: list[LoggedEvent] = []
            reader.seek(0)
            next_offset = 0
            while next_offset < end:
                batch = reader.poll(5000, 0.2)
                next_offset = batch.next_offset
                events = (read_record(record, epoch, self.issuers) for record in batch.records)
                found += [event for event in events if isinstance(event, LoggedEvent)]
        return found


@pytest.fixture
def new_instance(
    kafka: TestKafka, postgres: TestPostgres, tmp_path: Path
) -> Iterator[Callable[[], TestInstance]]:
    """Make instances that are closed when the test ends."""
    with ExitStack() as stack:

        def make() -> TestInstance:
            settings = kafka.settings()
            client = Kafka(settings, client_id="test")
            with client.admin() as admin:
                ensure_topics(admin, client.topic)
            dsn = postgres.fresh_database()
            pool = open_pool(PostgresSettings(dsn=dsn), "test")
            stack.callback(pool.close)
            folder = tmp_path / secrets.token_hex(4)
            folder.mkdir()
            signer = SigningKey.create(folder / "restore.key")
            root_key = RootKey.create(folder / "root.key")
            return TestInstance(folder, dsn, settings, client, pool, root_key, signer, stack)

        yield make


@pytest.fixture
def instance(new_instance: Callable[[], TestInstance]) -> TestInstance:
    return new_instance()
