"""The HTTP interface of backup_service, put together: who may come in, and every route."""

from __future__ import annotations

from flask import Flask
from prometheus_client import CollectorRegistry

from backup_service.api.administrators import create_administrator_routes
from backup_service.api.configuration import create_configuration_routes
from backup_service.api.disasters import create_disaster_routes
from backup_service.api.holds import create_hold_routes
from backup_service.api.keys import create_key_routes
from backup_service.api.operations import create_operation_routes
from backup_service.api.retention import create_retention_routes
from backup_service.api.routes import create_routes
from backup_service.api.schedule import create_schedule_routes
from backup_service.context import SERVICE, BackupContext
from backup_service.keys.overview import KeyMetrics
from backup_service.metrics import ProtectionCollector
from backup_service.spoken import SPOKEN
from backup_service.verification.metrics import StoredBackupMetrics
from backup_service.web.pages import add_pages
from serving.access import Access
from serving.access.bootstrap import Bootstrap
from serving.access.flow import FLOW_KEY
from serving.access.routes import create_access_routes
from serving.access.token_routes import create_token_routes
from serving.access.tokens import TokenHolders
from serving.api import serve_document
from serving.app import Readiness, create_app
from serving.asyncapi import asyncapi
from serving.audit import RefusalAudit
from serving.audit.routes import create_audit_routes
from serving.caller import FirstOf, OperatorToken
from serving.watching import WatchBoard


def access_of(context: BackupContext) -> Access:
    """Return what sessions and tokens need of this service."""
    return Access(
        context.settings.access,
        context.settings.place.instance_id,
        context.pool,
        context.store,
        context.audit,
        context.clock,
        context.settings.bootstrap_file,
    )


def create_http(
    context: BackupContext,
    access: Access,
    readiness: Readiness,
    refusals: RefusalAudit,
    board: WatchBoard,
) -> Flask:
    """Build the application with every route. Raises UnknownSetting when the token is unreadable."""
    registry = CollectorRegistry()
    registry.register(KeyMetrics(context))
    registry.register(ProtectionCollector(context))
    registry.register(StoredBackupMetrics(context))
    app = create_app(
        SERVICE,
        FirstOf(
            OperatorToken(context.settings.http.token_file, context.clock),
            TokenHolders(access),
            Bootstrap(access),
        ),
        readiness,
        access=access,
        registry=registry,
        on_refusal=refusals.refused,
        place=context.settings.place,
    )
    app.register_blueprint(create_access_routes(access))
    if access.settings.oidc is not None:
        # Who has no provider does not wait for what speaks to one.
        from serving.access.oidc_routes import BACKUPS, Ways, create_oidc_routes
        from serving.access.provider import Provider

        provider, ways = Provider(access.settings.oidc), Ways(BACKUPS, context.settings.web)
        key = context.root.derived(FLOW_KEY)
        app.register_blueprint(create_oidc_routes(access, key, provider, ways, refusals.refused))
    app.register_blueprint(create_token_routes(access))
    app.register_blueprint(create_administrator_routes(context, access))
    app.register_blueprint(create_routes(context, board))
    app.register_blueprint(create_hold_routes(context))
    app.register_blueprint(create_retention_routes(context, board))
    app.register_blueprint(create_key_routes(context))
    app.register_blueprint(create_operation_routes(context, board))
    app.register_blueprint(create_disaster_routes(context))
    app.register_blueprint(create_configuration_routes(context))
    app.register_blueprint(create_schedule_routes(context))
    app.register_blueprint(create_audit_routes(context.audit_reader))
    # Behind all others of the API, of which it tells.
    serve_document(
        app,
        SERVICE,
        check_answers=context.settings.http.check_answers,
        messages=asyncapi(SERVICE, SPOKEN, context.kafka.topic),
    )
    add_pages(app, context, access, refusals)
    return app
