"""The composition root of backup_service: everything is made here, once."""

from __future__ import annotations

from functools import partial

from backup_service import events as ev
from backup_service.api.application import access_of, create_http
from backup_service.command_handlers import command_handlers, restore_event_handlers
from backup_service.context import SERVICE, BackupContext
from backup_service.handlers.note_rehearsal import refuse_event
from backup_service.history import History
from backup_service.keys.recipients import NamedRecipients
from backup_service.keys.waiting import WaitingKeys
from backup_service.keys.watch import KeyWatch
from backup_service.leases import migrate_leases
from backup_service.operations import Operations
from backup_service.retention.runs import RetentionRuns
from backup_service.schedule.leader import ScheduleLeader
from backup_service.settings import BackupServiceSettings
from backup_service.standstill import StandstillWatch
from backup_service.verification.worker import VerificationWorker
from backup_service.worker import BackupWorker
from serving.access.keeper import AccessKeeper
from serving.access.schema import migrate_access
from serving.app import Readiness
from serving.audit import RefusalAudit
from serving.audit.checkpoints import CheckpointKeeper
from serving.checks import TopicCheck, log_and_store_checks
from serving.command_topic import CommandTopic
from serving.progress import ProgressBoard
from serving.pulse import Pulse, process_name
from serving.runtime import ServiceRuntime
from serving.watching import WatchBoard
from shared.archive.trust import load_signers
from shared.audit import AuditTrail
from shared.clock import SYSTEM_CLOCK, Clock
from shared.database import Lock, open_pool
from shared.eventstore import CommandConsumer, EventFollower, EventStore, Relay
from shared.instance.keyring import RootKey
from shared.kafka import Kafka
from shared.messages import IssuerRegistry, SigningKey
from shared.messages.topics import (
    AUDIT,
    BACKUP_COMMANDS,
    BACKUP_EVENTS,
    INSTANCE_EVENTS,
    RESTORE_EVENTS,
)
from shared.storage import LocalFolder

TOPICS_USED = (INSTANCE_EVENTS, BACKUP_COMMANDS, BACKUP_EVENTS, RESTORE_EVENTS, AUDIT)


def run(settings: BackupServiceSettings, clock: Clock = SYSTEM_CLOCK) -> int:
    """Run until SIGTERM; return the exit code. Raises SecrynError when it cannot start."""
    runtime = ServiceRuntime(SERVICE)
    kafka = Kafka(settings.kafka, SERVICE)
    # Every session of this process bears its name: others see by it whether it goes on.
    name = process_name(SERVICE)
    settings = settings.model_copy(update={"postgres": settings.postgres.named(name)})
    # Before anything that may take long: whoever is silent is taken for dead.
    runtime.add_worker("pulse", Pulse(settings.postgres.dsn, name).run, last=True, now=True)
    pool = open_pool(settings.postgres, SERVICE)
    runtime.on_close(pool.close)
    store = EventStore("backup", Lock.BACKUP_APPEND, clock)
    signer = SigningKey.load(settings.place.signing_key_file)
    context = BackupContext(
        settings=settings,
        clock=clock,
        pool=pool,
        kafka=kafka,
        store=store,
        history=History(store),
        operations=Operations(store),
        runs=RetentionRuns(store),
        audit=AuditTrail(store, SERVICE),
        keys=WaitingKeys(settings.keys),
        recipients=NamedRecipients(),
        objects=LocalFolder(settings.storage.folder),
        root=RootKey.load(settings.place.root_key_file),
        signer=signer,
        trusted_signers=load_signers(settings.place.trusted_signers_file) | {signer.fingerprint},
        issuers=IssuerRegistry.load(settings.place.issuers_file),
        progress=ProgressBoard(),
        stop=runtime.give_up,
    )
    with pool.connection() as conn:
        store.migrate(conn)
        for model in context.read_models:
            model.migrate(conn)
        context.keys.migrate(conn)
        context.recipients.migrate(conn)
        migrate_leases(conn)
    migrate_access(pool, settings.access.owner_role)
    commands = CommandTopic(
        topic=BACKUP_COMMANDS,
        answers=BACKUP_EVENTS,
        rejected=ev.REJECTED,
        action="backup.create",
        handlers=command_handlers(context),
        pool=pool,
        store=store,
        audit=context.audit,
    )
    consumer = CommandConsumer(
        kafka,
        BACKUP_COMMANDS,
        group_id=kafka.topic("backup.commands"),
        issuers=context.issuers,
        handle=commands.handle,
        refused=commands.refused,
    )
    told = restore_event_handlers(context)
    restores = EventFollower(
        kafka,
        RESTORE_EVENTS,
        group_id=kafka.topic("backup.restores"),
        types=told,
        issuers=context.issuers,
        handle=lambda event, issuer: told[event.type](event, issuer),
        refused=partial(refuse_event, context),
    )
    relay = Relay(
        store,
        kafka,
        settings.postgres.dsn,
        transactional_id=kafka.topic("backup.relay"),
        lock=Lock.BACKUP_RELAY,
        key=context.signer,
        issuer=SERVICE,
    )
    runtime.add_worker("topics", TopicCheck(kafka, TOPICS_USED).run)
    runtime.add_worker("commands", consumer.run)
    runtime.add_worker("restores", restores.run)
    runtime.add_worker("relay", relay.run, last=True)
    runtime.add_worker("keys", KeyWatch(context).run)
    runtime.add_worker("store", StandstillWatch(context).run)
    runtime.add_worker("backups", BackupWorker(context).run)
    runtime.add_worker("schedule", ScheduleLeader(context).run)
    runtime.add_worker("verification", VerificationWorker(context).run)
    board = WatchBoard(store, pool, context.progress, slots=settings.http.watchers)
    runtime.add_worker("watching", board.run)
    readiness = Readiness()
    log_and_store_checks(readiness, pool)
    access, refusals = access_of(context), RefusalAudit(context.record)
    runtime.add_worker("audit", CheckpointKeeper(context.audit_reader).run)
    runtime.add_worker("access", AccessKeeper(access, refusals).run)
    app = create_http(context, access, readiness, refusals, board)
    return runtime.run(app, settings.http)
