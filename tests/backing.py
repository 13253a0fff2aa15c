"""The parts of backup_service on a real PostgreSQL and a real log, with the rights of a place.

backing = Backing.create(postgres, kafka, tmp_path)
with backing.projector() as projector:           # as its own role, in a thread
    backing.writer.append(...)                   # a platform service
backing.lose_log()                               # the topic is another one afterwards
adopt_log(backing.context, ..., backing.admin)   # what the HTTP interface calls
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from backup_service.context import SERVICE, BackupContext
from backup_service.history import History
from backup_service.keys.recipients import NamedRecipients
from backup_service.keys.waiting import WaitingKeys
from backup_service.leases import migrate_leases
from backup_service.operations import Operations
from backup_service.projector.loop import Projector
from backup_service.projector.settings import FoldSettings
from backup_service.projector.status import ProjectorStatus
from backup_service.retention.runs import RetentionRuns
from backup_service.settings import BackupServiceSettings, KeySettings, StorageSettings
from serving.caller import PERMISSIONS
from serving.progress import ProgressBoard
from serving.requester import Requester
from shared.audit import AuditTrail
from shared.clock import SYSTEM_CLOCK, Clock
from shared.database import Lock, open_pool
from shared.eventstore import EventStore, Relay, StoredEvent
from shared.instance.events import ProjectCreated
from shared.instance.keyring import RootKey
from shared.instance.position import LogPosition, read_position
from shared.instance.reading import ANNOUNCE
from shared.instance.stored import Written
from shared.instance.writer import InstanceWriter
from shared.kafka import Kafka, Record, TopicSpec
from shared.messages import CloudEvent, Issuer, IssuerRegistry, SigningKey, sign
from shared.messages.topics import AUDIT, BACKUP_EVENTS, INSTANCE_EVENTS, TOPICS
from shared.secretfiles import write_secret_file
from shared.settings import HttpSettings, KafkaSettings, PlaceSettings, PostgresSettings
from shared.storage import LocalFolder
from tests.outbox import in_thread, replace_topic
from tests.plugins.instance import RunningProjector, eventually
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import PlaceDatabase, TestPostgres

ISSUER = "restore_service"
ROLE = "secryn_backup"
ADMIN = Requester("anna", PERMISSIONS, "test", "corr-1", unattended=True)


@dataclass
class Backing:
    """One place: its store, its log, and the context of one process of backup_service."""

    place: PlaceDatabase
    context: BackupContext
    restorer: SigningKey
    stack: ExitStack
    writer: InstanceWriter = field(init=False)
    admin: Requester = ADMIN

    @classmethod
    def create(
        cls,
        postgres: TestPostgres,
        kafka: TestKafka,
        folder: Path,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Backing:
        place = postgres.fresh_place()
        restorer = SigningKey.create(folder / "restore.key")
        signer = SigningKey.create(folder / "signing.key")
        settings = _settings(place, folder, kafka.settings())
        pool = open_pool(settings.postgres, "test")
        store = EventStore("backup", Lock.BACKUP_APPEND, clock)
        context = BackupContext(
            settings=settings,
            clock=clock,
            pool=pool,
            kafka=Kafka(settings.kafka, SERVICE),
            store=store,
            history=History(store),
            operations=Operations(store),
            runs=RetentionRuns(store),
            audit=AuditTrail(store, SERVICE),
            keys=WaitingKeys(settings.keys),
            recipients=NamedRecipients(),
            objects=LocalFolder(settings.storage.folder),
            root=RootKey.create(folder / "root.key"),
            signer=signer,
            trusted_signers=frozenset({signer.fingerprint}),
            issuers=IssuerRegistry(
                {ISSUER: Issuer(ISSUER, restorer.public, frozenset({ANNOUNCE}))}
            ),
            progress=ProgressBoard(),
            stop=threading.Event(),
        )
        with pool.connection() as conn:
            store.migrate(conn)
            context.history.migrate(conn)
            context.operations.migrate(conn)
            context.keys.migrate(conn)
            context.recipients.migrate(conn)
            migrate_leases(conn)
            context.runs.migrate(conn)
        stack = ExitStack()
        stack.callback(pool.close)
        made = cls(place, context, restorer, stack)
        made.make_log()
        return made

    def __post_init__(self) -> None:
        context = self.context
        writer = InstanceWriter(
            context.kafka, context.pool, context.root, source="test", actor="tester"
        )
        self.writer = self.stack.enter_context(writer)

    @property
    def instance_id(self) -> UUID:
        return self.context.settings.place.instance_id

    # The log

    @property
    def topic(self) -> str:
        return self.context.kafka.topic(INSTANCE_EVENTS)

    def make_log(self) -> None:
        spec = TopicSpec(self.topic, 1, TOPICS[INSTANCE_EVENTS])
        with self.context.kafka.admin() as admin:
            admin.ensure_topic(spec)

    def lose_log(self) -> None:
        """Delete the log and make another, empty one of the same name."""
        replace_topic(self.context.kafka, self.context.settings.kafka, INSTANCE_EVENTS)

    def add(self, name: str) -> Written:
        """Append a project."""
        return self.writer.append(ProjectCreated(id=uuid4(), name=name))

    def send(self, event: CloudEvent, key: SigningKey | None = None) -> int:
        """Append an event, signed by restore_service if a key is given; return its offset."""
        signed = event if key is None else sign(event, key, ISSUER)
        with self.context.kafka.producer() as producer:
            return producer.send_sync(self.topic, signed.to_kafka())

    def read_log(self) -> list[Record]:
        with self.context.kafka.admin() as admin:
            end, position = admin.high_watermark(self.topic), 0
        found: list[Record] = []
        with self.context.kafka.log_reader(self.topic) as reader:
            reader.seek(0)
            while position < end:
                batch = reader.poll(1000, 1.0)
                position, found = batch.next_offset, found + batch.records
        return found

    # The store

    @contextmanager
    def projector(self) -> Iterator[RunningProjector]:
        """Run a projector as its own role."""
        status, stop = ProjectorStatus(), threading.Event()
        projector = Projector(
            self.context.kafka,
            PostgresSettings(dsn=self.place.dsn("secryn_projector")),
            self.context.issuers,
            status,
            FoldSettings(poll_timeout_s=0.1, position_role=ROLE),
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
    def relay(self) -> Iterator[None]:
        """Publish what is appended, beside the block."""
        context = self.context
        with context.kafka.admin() as admin:
            for topic in (BACKUP_EVENTS, AUDIT):
                admin.ensure_topic(TopicSpec(context.kafka.topic(topic), 1, TOPICS[topic]))
        relay = Relay(
            context.store, context.kafka, context.settings.postgres.dsn,
            transactional_id=context.kafka.topic("backup.relay"), lock=Lock.BACKUP_RELAY,
            key=context.signer, issuer=SERVICE,
        )  # fmt: skip
        with in_thread(relay.run):
            yield

    def position(self) -> LogPosition:
        with psycopg.connect(self.place.dsn()) as conn:
            return read_position(conn)

    def projects(self) -> set[str]:
        with psycopg.connect(self.place.dsn()) as conn:
            return {row[0] for row in conn.execute("SELECT name FROM instance.projects")}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what one query gives, as superuser."""
        with psycopg.connect(self.place.dsn()) as conn:
            return conn.execute(query.encode()).fetchall()

    def execute(self, statement: str, *values: Any) -> None:
        """Run one statement as superuser."""
        with psycopg.connect(self.place.dsn(), autocommit=True) as conn:
            conn.execute(statement.encode(), values)

    def events(self, kind: str) -> list[StoredEvent]:
        """Return every stored event of one type."""
        with self.context.pool.connection() as conn:
            return [e for e in self.context.store.read_all(conn, 0, 100_000) if e.type == kind]

    def audited(self, action: str) -> list[dict[str, Any]]:
        """Return the audit entries of one action."""
        with self.context.pool.connection() as conn:
            entries = self.context.store.read_stream(conn, "audit")
        return [e.data for e in entries if e.data["api"]["operation"] == action]


def _settings(place: PlaceDatabase, folder: Path, kafka: KafkaSettings) -> BackupServiceSettings:
    write_secret_file(folder / "token", b"token")
    return BackupServiceSettings(
        postgres=PostgresSettings(dsn=place.dsn(ROLE), pool_max=16),
        kafka=kafka,
        place=PlaceSettings(
            instance_id=uuid4(),
            root_key_file=folder / "root.key",
            signing_key_file=folder / "signing.key",
            trusted_signers_file=folder / "signers.toml",
            issuers_file=folder / "issuers.toml",
        ),
        http=HttpSettings(port=0, token_file=folder / "token", check_answers=True),
        storage=StorageSettings(folder=folder / "backups"),
        keys=KeySettings(folder=folder / "keks"),
    )
