"""Whose audit trail a command is about."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cli.connect import Connected
from shared.client import AuditClient


class Service(StrEnum):
    """A service with a trail of its own."""

    backup = "backup_service"
    restore = "restore_service"


Whose = Annotated[
    Service | None, typer.Option("--service", help="Of this one alone; without it, of both.")
]


def trails(stack: Connected, service: Service | None) -> dict[str, AuditClient]:
    """Return the trails that are meant, by service."""
    known = {Service.backup: stack.audit, Service.restore: stack.restore_audit}
    return {one.value: trail for one, trail in known.items() if service in (None, one)}
