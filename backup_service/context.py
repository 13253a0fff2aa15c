"""What every handler works with; made once, in the composition root."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property

from backup_service.history import History
from backup_service.keys.recipients import NamedRecipients
from backup_service.keys.waiting import WaitingKeys
from backup_service.operations import Operations
from backup_service.readmodel import ReadModel
from backup_service.retention.runs import RetentionRuns
from backup_service.settings import BackupServiceSettings
from backup_service.standstill import Standstill
from serving.audit.reader import AuditReader
from serving.progress import ProgressBoard
from shared.audit import AuditEntry, AuditTrail
from shared.clock import Clock
from shared.database import Pool, postgres_faults
from shared.eventstore import EventStore
from shared.instance.keyring import RootKey
from shared.kafka import Kafka
from shared.messages import IssuerRegistry, SigningKey
from shared.storage import ObjectStore

SERVICE = "backup_service"


@dataclass(frozen=True)
class BackupContext:
    """The parts of backup_service. ``stop`` is set when work in hand has to be given up."""

    settings: BackupServiceSettings
    clock: Clock
    pool: Pool
    kafka: Kafka
    store: EventStore
    history: History
    operations: Operations
    runs: RetentionRuns
    audit: AuditTrail
    keys: WaitingKeys
    recipients: NamedRecipients
    objects: ObjectStore
    root: RootKey
    signer: SigningKey
    trusted_signers: frozenset[str]
    issuers: IssuerRegistry
    progress: ProgressBoard
    stop: threading.Event
    standstill: Standstill = field(default_factory=Standstill)

    @property
    def read_models(self) -> tuple[ReadModel, ...]:
        """Return all that is folded from the service's events."""
        return (self.history, self.operations, self.runs)

    @cached_property
    def audit_reader(self) -> AuditReader:
        """Return what reads the trail for whoever may."""
        return AuditReader(
            self.store, self.audit, self.pool, self.signer, self.settings.place.instance_id
        )

    def record(self, entry: AuditEntry, correlation_id: str) -> None:
        """Record an audit entry in a transaction of its own."""
        with postgres_faults("recording the audit trail"), self.pool.connection() as conn:
            self.audit.record(conn, entry, correlation_id)


def object_name(backup_id: object) -> str:
    """Return the name of a backup's encrypted object."""
    return f"{backup_id}.age"


def receipt_name(backup_id: object) -> str:
    """Return the name of the signed receipt beside it."""
    return f"{backup_id}.receipt.json"
