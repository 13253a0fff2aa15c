"""The standing settings that there are."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from backup_service.configuration.schedule import Schedule
from backup_service.configuration.staleness import Staleness
from backup_service.configuration.verification import Verification
from backup_service.retention.policy import RetentionPolicy
from shared.errors import NotFoundError
from shared.standing.rehearsal import RehearsalTiming
from shared.standing.setting import StandingSetting

STANDING: Final[Mapping[str, type[StandingSetting]]] = MappingProxyType(
    {
        model.SHORT: model
        for model in (Schedule, RetentionPolicy, Staleness, Verification, RehearsalTiming)
    }
)


def standing_model(name: str) -> type[StandingSetting]:
    """Return the model of the setting that people call ``name``. Raises NotFoundError."""
    if name not in STANDING:
        raise NotFoundError(
            f"there is no standing setting {name[:64]!r}",
            hint=f"There are {', '.join(STANDING)}.",
        )
    return STANDING[name]
