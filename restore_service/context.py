"""What every handler works with; made once, in the composition root."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from prometheus_client import Counter

from restore_service.commands import RehearsalTask, RestoreInstance, UndoRestore
from restore_service.history import History
from restore_service.metrics import glass_counter
from restore_service.previews import PreviewBoard
from restore_service.recipient.keys import RecipientKeys
from restore_service.rehearsal.history import RehearsalHistory
from restore_service.rehearsal.identity import StandingIdentity
from restore_service.settings import RestoreServiceSettings
from serving.audit.reader import AuditReader
from serving.progress import ProgressBoard
from shared.archive.keyfile import KeyFile
from shared.audit import AuditEntry, AuditTrail
from shared.clock import SYSTEM_CLOCK, Clock
from shared.database import Connection, Pool, postgres_faults
from shared.eventstore import EventStore
from shared.instance.keyring import RootKey
from shared.kafka import Kafka
from shared.messages import IssuerRegistry, SigningKey
from shared.storage import ObjectStore

SERVICE = "restore_service"


@dataclass(frozen=True)
class AcceptedRestore:
    """A restore that this process is to run, with the key that is nowhere else."""

    command: RestoreInstance
    key: KeyFile


@dataclass(frozen=True)
class AcceptedUndo:
    """An undo that this process is to run; it needs no key."""

    command: UndoRestore


@dataclass(frozen=True)
class AcceptedRehearsal:
    """A rehearsal that this process is to run, with the key that is nowhere else."""

    command: RehearsalTask
    key: KeyFile


Accepted = AcceptedRestore | AcceptedUndo


@dataclass(frozen=True)
class RestoreContext:
    """The parts of restore_service.

    ``runner`` names this process among the replicas; ``stop`` is set when work in hand has to be
    given up.
    """

    settings: RestoreServiceSettings
    pool: Pool
    kafka: Kafka
    store: EventStore
    history: History
    rehearsals: RehearsalHistory
    audit: AuditTrail
    recipients: RecipientKeys
    backups: ObjectStore
    uploads: ObjectStore
    root: RootKey
    signer: SigningKey
    trusted_signers: frozenset[str]
    issuers: IssuerRegistry
    progress: ProgressBoard
    stop: threading.Event
    runner: str
    clock: Clock = SYSTEM_CLOCK
    identity: StandingIdentity | None = None
    accepted: dict[str, Accepted] = field(default_factory=dict, repr=False)
    to_rehearse: dict[str, AcceptedRehearsal] = field(default_factory=dict, repr=False)
    previews: PreviewBoard = field(default_factory=PreviewBoard)
    glass_broken: Counter = field(default_factory=glass_counter)

    @cached_property
    def audit_reader(self) -> AuditReader:
        """Return what reads the trail for whoever may."""
        return AuditReader(
            self.store, self.audit, self.pool, self.signer, self.settings.place.instance_id
        )

    def record(self, entry: AuditEntry, correlation_id: str) -> None:
        """Record an audit entry in a transaction of its own."""
        with self.transaction("recording the audit trail") as conn:
            self.audit.record(conn, entry, correlation_id)

    @contextmanager
    def transaction(self, doing: str) -> Iterator[Connection]:
        """Run a block in a transaction of its own."""
        with postgres_faults(doing), self.pool.connection() as conn:
            yield conn
