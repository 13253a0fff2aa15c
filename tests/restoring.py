"""The parts of restore_service on a real PostgreSQL, for what happens between processes.

restoring = Restoring.create(postgres, tmp_path)
restore_id = restoring.requested()           # a restore that was stored and not begun
restoring.fenced(restore_id)                 # ... whose fence stands in the store
restoring.states(restore_id)                 # the types of its events, in order

Nothing reaches Kafka, unless one is given: then it is a log that has its topics, and another
identity than the one that the store was folded from.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from restore_service import events as ev
from restore_service.context import SERVICE, RestoreContext
from restore_service.history import History
from restore_service.recipient.keys import RecipientKeys
from restore_service.rehearsal.history import RehearsalHistory
from restore_service.settings import FolderSettings, RestoreServiceSettings
from serving.access.schema import migrate_access
from serving.progress import ProgressBoard
from shared.audit import AuditTrail
from shared.clock import SYSTEM_CLOCK, Clock
from shared.database import Lock, open_pool
from shared.eventstore import EventMeta, EventStore, NewEvent
from shared.instance.events import RestoreStarted
from shared.instance.keyring import RootKey
from shared.instance.migrate import migrate
from shared.instance.position import LogPosition, first_position, read_position, write_position
from shared.kafka import Kafka
from shared.messages import IssuerRegistry, SigningKey
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS
from shared.secretfiles import write_secret_file
from shared.settings import HttpSettings, KafkaSettings, PlaceSettings, PostgresSettings
from shared.storage import LocalFolder
from tests.plugins.postgres import PlaceDatabase, TestPostgres

META = EventMeta("tester", "corr-1")


@dataclass
class Restoring:
    """One place's store and the context of one process of restore_service."""

    place: PlaceDatabase
    context: RestoreContext

    @classmethod
    def create(
        cls,
        postgres: TestPostgres,
        folder: Path,
        kafka: KafkaSettings | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Restoring:
        place = postgres.fresh_place()
        with psycopg.connect(place.dsn("secryn_projector")) as conn:
            migrate(conn, "instance")
            write_position(conn, first_position("cluster", "topic"))
        settings = _settings(place, folder, kafka or KafkaSettings(bootstrap="127.0.0.1:1"))
        pool = open_pool(settings.postgres, "test")
        store = EventStore("restore", Lock.RESTORE_APPEND, clock)
        context = RestoreContext(
            settings=settings,
            pool=pool,
            kafka=Kafka(settings.kafka, SERVICE),
            store=store,
            history=History(store),
            rehearsals=RehearsalHistory(store),
            audit=AuditTrail(store, SERVICE),
            recipients=RecipientKeys(folder / "recipients", 3600),
            backups=LocalFolder(folder / "backups"),
            uploads=LocalFolder(folder / "uploads"),
            root=RootKey.create(folder / "root.key"),
            signer=SigningKey.create(folder / "signing.key"),
            trusted_signers=frozenset(),
            issuers=IssuerRegistry({}),
            progress=ProgressBoard(),
            stop=threading.Event(),
            runner=str(uuid4()),
            clock=clock,
        )
        with pool.connection() as conn:
            store.migrate(conn)
            context.history.migrate(conn)
            context.rehearsals.migrate(conn)
        migrate_access(pool, "secryn_access")
        return cls(place, context)

    def another_process(self) -> RestoreContext:
        """Return the context of a second replica."""
        return replace(self.context, runner=str(uuid4()), accepted={}, to_rehearse={})

    def with_restore_settings(self, **changed: object) -> RestoreContext:
        """Return the context of a process with other settings of the restores."""
        settings = self.context.settings
        restore = settings.restore.model_copy(update=changed)
        return replace(self.context, settings=settings.model_copy(update={"restore": restore}))

    def append(self, restore_id: str, *events: NewEvent) -> None:
        """Append to a restore's stream, whatever its version."""
        with self.context.transaction("a test") as conn:
            version = self.context.store.version(conn, ev.stream_of(restore_id))
            self.context.history.append(conn, restore_id, version, events, META)

    def requested(self) -> str:
        """Store a request of this process; return the restore's id."""
        restore_id = str(uuid4())
        data = {
            "restore_id": restore_id, "command_id": str(uuid4()), "backup_id": str(uuid4()),
            "upload_id": None, "reason": "a test", "runner": self.context.runner,
        }  # fmt: skip
        self.append(restore_id, NewEvent(ev.REQUESTED, data, RESTORE_EVENTS))
        return restore_id

    def fenced(self, restore_id: str) -> int:
        """Raise the restore's fence, at offset 0, in its stream and in the store."""
        with self.context.transaction("a test") as conn:
            number = self.context.history.next_fence_no(conn, restore_id, 0)
        started = RestoreStarted(restore_id=UUID(restore_id), fence_no=number, backup_id=uuid4())
        data = started.model_dump(mode="json")
        self.append(restore_id, NewEvent(RestoreStarted.TYPE, data, INSTANCE_EVENTS))
        self.take_row(UUID(restore_id), number)
        return number

    def take_row(self, restore_id: UUID, number: int) -> None:
        with psycopg.connect(self.place.dsn("secryn_projector")) as conn:
            fence = {"fence_no": number, "fence_restore_id": restore_id, "fence_offset": 0}
            found = read_position(conn, lock=True)
            write_position(conn, replace(found, **fence, highest_fence_no=number))  # type: ignore[arg-type]

    def lower_row(self) -> None:
        """Take the fence off the store's row, as the projector does at its end."""
        with psycopg.connect(self.place.dsn("secryn_projector")) as conn:
            nobody = {"fence_no": None, "fence_restore_id": None, "fence_offset": None}
            write_position(conn, replace(read_position(conn, lock=True), **nobody))  # type: ignore[arg-type]

    def position(self) -> LogPosition:
        with psycopg.connect(self.place.dsn()) as conn:
            return read_position(conn)

    def types(self, restore_id: str) -> list[str]:
        """Return the types of a restore's events, in order."""
        with self.context.transaction("a test") as conn:
            return [e.type for e in self.context.store.read_stream(conn, ev.stream_of(restore_id))]


def _settings(place: PlaceDatabase, folder: Path, kafka: KafkaSettings) -> RestoreServiceSettings:
    token = folder / "token"
    write_secret_file(token, b"token")
    return RestoreServiceSettings(
        postgres=PostgresSettings(dsn=place.dsn("secryn_restore"), pool_max=4),
        kafka=kafka,
        place=PlaceSettings(
            instance_id=uuid4(),
            root_key_file=folder / "root.key",
            signing_key_file=folder / "signing.key",
            trusted_signers_file=folder / "signers.toml",
            issuers_file=folder / "issuers.toml",
        ),
        http=HttpSettings(port=0, token_file=token, check_answers=True),
        storage=FolderSettings(folder=folder / "backups"),
        uploads=FolderSettings(folder=folder / "uploads"),
        recipients=FolderSettings(folder=folder / "recipients"),
        bootstrap_file=folder / "bootstrap",
    )
