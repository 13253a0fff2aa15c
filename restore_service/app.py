"""The composition root of restore_service: everything is made here, once."""

from __future__ import annotations

import threading
from uuid import uuid4

from restore_service import events as ev
from restore_service.api.application import access_of, create_http
from restore_service.command_handlers import command_handlers
from restore_service.context import SERVICE, RestoreContext
from restore_service.history import History
from restore_service.recipient.keys import RecipientKeys
from restore_service.rehearsal.history import RehearsalHistory
from restore_service.rehearsal.identity import StandingIdentity
from restore_service.settings import RestoreServiceSettings
from restore_service.worker import PreviewWorker, RehearsalWorker, RestoreWorker
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
from shared.database import Lock, Pool, open_pool
from shared.eventstore import CommandConsumer, EventStore, Relay
from shared.instance.keyring import RootKey
from shared.kafka import Kafka
from shared.messages import IssuerRegistry, SigningKey
from shared.messages.topics import AUDIT, INSTANCE_EVENTS, RESTORE_COMMANDS, RESTORE_EVENTS
from shared.storage import LocalFolder

TOPICS_USED = (INSTANCE_EVENTS, RESTORE_COMMANDS, RESTORE_EVENTS, AUDIT)


def run(settings: RestoreServiceSettings, clock: Clock = SYSTEM_CLOCK) -> int:
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
    context = make_context(settings, kafka, pool, runtime.give_up, clock)
    with pool.connection() as conn:
        context.store.migrate(conn)
        context.history.migrate(conn)
        context.rehearsals.migrate(conn)
    migrate_access(pool, settings.access.owner_role)
    commands = CommandTopic(
        topic=RESTORE_COMMANDS,
        answers=RESTORE_EVENTS,
        rejected=ev.REJECTED,
        action="restore.run",
        handlers=command_handlers(context),
        pool=pool,
        store=context.store,
        audit=context.audit,
    )
    consumer = CommandConsumer(
        kafka,
        RESTORE_COMMANDS,
        group_id=kafka.topic("restore.commands"),
        issuers=context.issuers,
        handle=commands.handle,
        refused=commands.refused,
    )
    relay = Relay(
        context.store,
        kafka,
        settings.postgres.dsn,
        transactional_id=kafka.topic("restore.relay"),
        lock=Lock.RESTORE_RELAY,
        key=context.signer,
        issuer=SERVICE,
    )
    runtime.add_worker("topics", TopicCheck(kafka, TOPICS_USED).run)
    runtime.add_worker("commands", consumer.run)
    runtime.add_worker("relay", relay.run, last=True)
    runtime.add_worker("restores", RestoreWorker(context).run)
    runtime.add_worker("rehearsals", RehearsalWorker(context).run)
    runtime.add_worker("previews", PreviewWorker(context).run)
    board = WatchBoard(context.store, pool, context.progress, slots=settings.http.watchers)
    runtime.add_worker("watching", board.run)
    readiness = Readiness()
    log_and_store_checks(readiness, pool)
    access, refusals = access_of(context), RefusalAudit(context.record)
    runtime.add_worker("audit", CheckpointKeeper(context.audit_reader).run)
    runtime.add_worker("access", AccessKeeper(access, refusals).run)
    app = create_http(context, access, readiness, refusals, board)
    return runtime.run(app, settings.http)


def make_context(
    settings: RestoreServiceSettings,
    kafka: Kafka,
    pool: Pool,
    stop: threading.Event,
    clock: Clock,
) -> RestoreContext:
    """Return the parts of one process. Raises UnknownSetting, KeyMalformed."""
    store = EventStore("restore", Lock.RESTORE_APPEND, clock)
    return RestoreContext(
        settings=settings,
        pool=pool,
        kafka=kafka,
        store=store,
        history=History(store),
        rehearsals=RehearsalHistory(store),
        audit=AuditTrail(store, SERVICE),
        recipients=RecipientKeys(settings.recipients.folder, settings.restore.recipient_lifetime_s),
        backups=LocalFolder(settings.storage.folder, writable=False),
        uploads=LocalFolder(settings.uploads.folder),
        root=RootKey.load(settings.place.root_key_file),
        signer=SigningKey.load(settings.place.signing_key_file),
        trusted_signers=load_signers(settings.place.trusted_signers_file),
        issuers=IssuerRegistry.load(settings.place.issuers_file),
        progress=ProgressBoard(),
        stop=stop,
        runner=str(uuid4()),
        clock=clock,
        identity=_identity(settings),
    )


def _identity(settings: RestoreServiceSettings) -> StandingIdentity | None:
    file = settings.rehearsal.identity_file
    if file is None:
        return None
    identity = StandingIdentity(file)
    # One that cannot be read is found now, and not at the first tick.
    identity.read()
    return identity
