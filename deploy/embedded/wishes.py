"""What the caller of `secryn up` asked for, and what becomes of the place by it."""

from __future__ import annotations

import tomllib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deploy.embedded.place import OwnKafka, OwnPostgres, Place, faults
from shared.errors import UnknownSetting


@dataclass(frozen=True)
class Wishes:
    """Options of `secryn up`; None leaves the place as it is."""

    environment: str | None = None
    environment_kind: str | None = None
    postgres_url: str | None = None
    kafka_config: Path | None = None
    settings: Path | None = None

    def __repr__(self) -> str:
        # A URL may hold a password.
        return f"Wishes(environment={self.environment!r}, kafka_config={self.kafka_config!r})"


def first_place(wishes: Wishes) -> Place:
    """Return the place of a new state: a new instance id, the default ports."""
    return wished_place(Place(instance_id=uuid.uuid4()), wishes)


def wished_place(place: Place, wishes: Wishes) -> Place:
    """Return ``place`` with the wishes in it. Raises UnknownSetting."""
    changes: dict[str, Any] = {}
    if wishes.environment is not None:
        changes["environment"] = wishes.environment
    if wishes.environment_kind is not None:
        changes["environment_kind"] = wishes.environment_kind
    if wishes.postgres_url is not None:
        changes["postgres"] = OwnPostgres(url=wishes.postgres_url)
    if wishes.kafka_config is not None:
        changes["kafka"] = _read_kafka(wishes.kafka_config)
    if wishes.settings is not None:
        changes["settings"] = _read_toml(wishes.settings)
    try:
        return Place.model_validate(place.model_dump() | changes)
    except ValidationError as error:
        raise UnknownSetting(f"settings are refused: {faults(error)}") from None


def _read_kafka(path: Path) -> OwnKafka:
    document = _read_toml(path)
    try:
        return OwnKafka.model_validate(document.get("kafka", document))
    except ValidationError as error:
        raise UnknownSetting(f"{path} is refused: {faults(error)}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnknownSetting(f"{path} cannot be read: {error}") from error
