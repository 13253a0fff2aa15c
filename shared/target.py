"""Is this the instance that was meant? Whoever replaces or moves one names it."""

from __future__ import annotations

from uuid import UUID

from shared.errors import TargetMismatch
from shared.settings import PlaceSettings


def check_target(place: PlaceSettings, instance_id: UUID, environment: str | None) -> None:
    """Compare the named instance with this place's; in production the environment, too.

    Raises TargetMismatch.
    """
    if instance_id != place.instance_id:
        raise TargetMismatch(
            f"this place holds the instance {place.instance_id}, the command names {instance_id}"
        )
    if place.environment_kind == "production" and environment != place.environment:
        raise TargetMismatch(
            "this environment is production: the command must name it",
            hint="Give the environment's name, as `secryn status` shows it.",
        )
