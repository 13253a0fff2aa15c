"""The parts of backup_service that need no log, on a real PostgreSQL: its keys and its history.

    context = offline_context(place.dsn("secryn_backup"), tmp_path, HandClock())

Made twice for one place and folder, it is two replicas.
"""

from __future__ import annotations

import threading
from pathlib import Path
from uuid import UUID, uuid4

from backup_service import events as ev
from backup_service.context import SERVICE, BackupContext
from backup_service.history import History
from backup_service.keys.recipients import NamedRecipients
from backup_service.keys.waiting import WaitingKeys
from backup_service.leases import migrate_leases
from backup_service.operations import Operations
from backup_service.retention.runs import RetentionRuns
from backup_service.settings import BackupServiceSettings, KeySettings, StorageSettings
from serving.progress import ProgressBoard
from shared.audit import AuditTrail
from shared.clock import Clock
from shared.database import Lock, open_pool
from shared.eventstore import EventMeta, EventStore, NewEvent
from shared.instance.keyring import RootKey
from shared.kafka import Kafka
from shared.messages import IssuerRegistry, SigningKey
from shared.secretfiles import write_secret_file
from shared.settings import HttpSettings, KafkaSettings, PlaceSettings, PostgresSettings
from shared.storage import LocalFolder

INSTANCE = UUID("0d0f1f7a-7d2e-4b1c-9a55-3f1a4c1be0aa")
META = EventMeta("tester", "corr-1")
KEY = "a key file"


def offline_context(dsn: str, folder: Path, clock: Clock) -> BackupContext:
    """Return what one process works with; whoever asks closes its pool."""
    settings = _settings(dsn, folder)
    root, signing = settings.place.root_key_file, settings.place.signing_key_file
    if not root.exists():
        RootKey.create(root)
        SigningKey.create(signing)
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
        root=RootKey.load(root),
        signer=SigningKey.load(signing),
        trusted_signers=frozenset(),
        issuers=IssuerRegistry({}),
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
    return context


def _settings(dsn: str, folder: Path) -> BackupServiceSettings:
    token = folder / "token"
    write_secret_file(token, b"token", exist_ok=True)
    return BackupServiceSettings(
        postgres=PostgresSettings(dsn=dsn, pool_max=4),
        kafka=KafkaSettings(bootstrap="127.0.0.1:1"),
        place=PlaceSettings(
            instance_id=INSTANCE,
            root_key_file=folder / "root.key",
            signing_key_file=folder / "signing.key",
            trusted_signers_file=folder / "signers.toml",
            issuers_file=folder / "issuers.toml",
        ),
        http=HttpSettings(port=0, token_file=token),
        storage=StorageSettings(folder=folder / "backups"),
        keys=KeySettings(folder=folder / "keks"),
    )


def append(context: BackupContext, backup_id: str, *events: NewEvent) -> None:
    with context.pool.connection() as conn:
        version = context.store.version(conn, ev.stream_of(backup_id))
        context.history.append(conn, backup_id, version, events, META)


def requested(context: BackupContext) -> str:
    backup_id = str(uuid4())
    asked = {"reason": "a test", "recipient_fingerprints": [], "at_position": False}
    append(context, backup_id, NewEvent(ev.REQUESTED, asked))
    return backup_id


def running(context: BackupContext) -> str:
    backup_id = requested(context)
    append(context, backup_id, NewEvent(ev.STARTED, {}))
    return backup_id


def created(context: BackupContext) -> str:
    backup_id = running(context)
    now = context.clock.now()
    append(context, backup_id, made(context, backup_id))
    with context.pool.connection() as conn:
        context.keys.deposit(conn, KEY, context.keys.wait_of(UUID(backup_id), now))
    return backup_id


def made(context: BackupContext, backup_id: str) -> NewEvent:
    """Return the event of a backup that is proven now."""
    now = context.clock.now()
    expires_at = context.keys.wait_of(UUID(backup_id), now).expires_at
    data = {
        "backup_id": backup_id,
        "proven_at": now.isoformat(),
        "key_expires_at": expires_at.isoformat(),
    }
    return NewEvent(ev.CREATED, data)


def own(context: BackupContext) -> str:
    """Make a backup for a recipient of somebody's own."""
    backup_id = str(uuid4())
    asked = {"reason": "a test", "recipient_fingerprints": ["SHA256:x"], "at_position": False}
    append(context, backup_id, NewEvent(ev.REQUESTED, asked), NewEvent(ev.STARTED, {}))
    append(context, backup_id, made(context, backup_id))
    return backup_id
