"""`secryn --url URL status`: how the services of a place somewhere else are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from cli.connect import Connected, connected
from cli.output import emit
from cli.protection import protection_lines
from cli.store import store_lines
from cli.strays import stray_lines
from shared.client import BackupClient, ServiceConnection
from shared.errors import SecrynError, StackNotHealthy, UnavailableError


def show_services(state: Path, as_json: bool) -> None:
    """Show both services' health, which instance they hold, and what a loss would cost.

    Raises StackNotHealthy when one is not ready, once all was shown.
    """
    with connected(state) as place:
        found = _found(place)
    emit(found, as_json, lambda: _show(found))
    if not found["healthy"]:
        raise StackNotHealthy("not every service is ready")


def _found(place: Connected) -> dict[str, Any]:
    services = [_service(each) for each in (place.backups.connection, place.restores.connection)]
    healthy = all(each["health"] == "healthy" for each in services)
    identity = place.place if healthy else None
    return {
        "healthy": healthy,
        "instance_id": identity.instance_id if identity else None,
        "environment": identity.environment if identity else None,
        "environment_kind": identity.environment_kind if identity else None,
        "services": services,
        "store": _store(place.backups) if healthy else None,
        "protection": place.backups.protection() if healthy else None,
        "stray_states": place.restores.strays()["states"] if healthy else None,
    }


def _store(backups: BackupClient) -> Mapping[str, Any] | None:
    """Return where the store stands; None where the log does not answer, say."""
    try:
        return backups.status()
    except SecrynError:
        return None


def _service(connection: ServiceConnection) -> dict[str, Any]:
    try:
        told = connection.ready()
    except UnavailableError as error:
        return {"url": connection.base_url, "health": "unreachable", "reason": error.message}
    faults = "; ".join(f"{name}: {fault}" for name, fault in told.get("faults", {}).items())
    health = "healthy" if told["ready"] else "unhealthy"
    return {"url": connection.base_url, "health": health, "reason": faults or None}


def _show(found: Mapping[str, Any]) -> None:
    if found["instance_id"] is not None:
        typer.echo(f"Instance {found['instance_id']} ({found['environment']})")
    for service in found["services"]:
        typer.echo(
            f"  {service['health']:<12} {service['url']}  {service['reason'] or ''}".rstrip()
        )
    for line in store_lines(found["store"], elsewhere=True):
        typer.echo(f"  {line}")
    for line in protection_lines(found["protection"]) if found["protection"] else ():
        typer.echo(f"  {line}")
    for line in stray_lines(found["stray_states"] or [], found["instance_id"]):
        typer.echo(f"  {line}")
