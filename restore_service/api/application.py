"""The HTTP interface of restore_service, put together: who may come in, and every route."""

from __future__ import annotations

from flask import Flask
from prometheus_client import CollectorRegistry

from restore_service.api.approvals import create_approval_routes
from restore_service.api.rehearsals import create_rehearsal_routes
from restore_service.api.routes import create_routes
from restore_service.api.strays import create_stray_routes
from restore_service.api.uploads import create_upload_routes
from restore_service.context import SERVICE, RestoreContext
from restore_service.handlers.drop_stray import count_strays
from restore_service.metrics import StrayCollector
from restore_service.receipts import ReceiptHolders
from restore_service.rehearsal.metrics import RehearsalCollector
from restore_service.spoken import SPOKEN
from restore_service.web.pages import add_pages
from serving.access import Access
from serving.access.bootstrap import Bootstrap
from serving.access.flow import FLOW_KEY
from serving.access.routes import create_access_routes
from serving.access.tokens import TokenHolders
from serving.api import serve_document
from serving.app import Readiness, create_app
from serving.asyncapi import asyncapi
from serving.audit import RefusalAudit
from serving.audit.routes import create_audit_routes
from serving.caller import FirstOf, OperatorToken
from serving.watching import WatchBoard
from shared.clock import SYSTEM_CLOCK, Clock


def access_of(context: RestoreContext, clock: Clock = SYSTEM_CLOCK) -> Access:
    """Return what sessions and tokens need of this service."""
    return Access(
        context.settings.access,
        context.settings.place.instance_id,
        context.pool,
        context.store,
        context.audit,
        clock,
        context.settings.bootstrap_file,
    )


def create_http(
    context: RestoreContext,
    access: Access,
    readiness: Readiness,
    refusals: RefusalAudit,
    board: WatchBoard,
) -> Flask:
    """Build the application with every route. Raises UnknownSetting when the token is unreadable."""
    registry = CollectorRegistry()
    registry.register(context.glass_broken)
    registry.register(RehearsalCollector(context))
    registry.register(StrayCollector(lambda: count_strays(context)))
    app = create_app(
        SERVICE,
        FirstOf(
            OperatorToken(context.settings.http.token_file, access.clock),
            ReceiptHolders(context),
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
        from serving.access.oidc_routes import RESTORES, Ways, create_oidc_routes
        from serving.access.provider import Provider

        provider, ways = Provider(access.settings.oidc), Ways(RESTORES, context.settings.web)
        key = context.root.derived(FLOW_KEY)
        app.register_blueprint(create_oidc_routes(access, key, provider, ways, refusals.refused))
    app.register_blueprint(create_routes(context, board))
    app.register_blueprint(create_upload_routes(context))
    app.register_blueprint(create_rehearsal_routes(context, board))
    app.register_blueprint(create_approval_routes(context))
    app.register_blueprint(create_stray_routes(context))
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
