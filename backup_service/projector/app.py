"""The composition root of the projector's process: everything is made here, once."""

from __future__ import annotations

from backup_service.projector.loop import Projector
from backup_service.projector.settings import ProjectorSettings
from backup_service.projector.status import ProjectorStatus
from backup_service.projector.web import SERVICE, create_projector_app
from serving.caller import OperatorToken
from serving.checks import TopicCheck
from serving.runtime import ServiceRuntime
from shared.clock import SystemClock
from shared.kafka import Kafka
from shared.messages import IssuerRegistry
from shared.messages.topics import INSTANCE_EVENTS


def run(settings: ProjectorSettings) -> int:
    """Run until SIGTERM; return the exit code.

    Nothing connects before the HTTP interface answers: what is missing is seen in /readyz.
    """
    status = ProjectorStatus()
    kafka = Kafka(settings.kafka, client_id=f"secryn-{SERVICE}")
    projector = Projector(
        kafka,
        settings.postgres,
        IssuerRegistry.load(settings.place.issuers_file),
        status,
        settings.fold,
    )
    runtime = ServiceRuntime(SERVICE)
    runtime.add_worker("fold", projector.run)
    runtime.add_worker("topics", TopicCheck(kafka, [INSTANCE_EVENTS]).run)
    app = create_projector_app(status, OperatorToken(settings.http.token_file, SystemClock()))
    return runtime.run(app, settings.http)
