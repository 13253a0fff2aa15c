"""``place.toml``: what belongs to one place and no backup, and where its parts are."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, Self
from uuid import UUID

import tomli_w
from pydantic import Field, ValidationError, model_validator

from shared.errors import StackStateInvalid
from shared.secretfiles import write_secret_file
from shared.settings import KafkaSettings, Section


class Ports(Section):
    """Loopback ports; a taken one is replaced by a free one at the start and noted here."""

    postgres: int = Field(default=55432, ge=1, le=65535)
    kafka: int = Field(default=59092, ge=1, le=65535)
    kafka_controller: int = Field(default=59093, ge=1, le=65535)
    backup: int = Field(default=8470, ge=1, le=65535)
    restore: int = Field(default=8471, ge=1, le=65535)
    projector: int = Field(default=8472, ge=1, le=65535)


class Hosts(Section):
    """How the parts find each other; on one machine all are at its loopback."""

    listen: str = "127.0.0.1"
    postgres: str = "127.0.0.1"
    kafka: str = "127.0.0.1"


class OwnPostgres(Section):
    """The operator's PostgreSQL. A password in a URL is moved to a passfile of the state."""

    url: str = Field(
        repr=False, description="Any libpq URL or string, for every process without its own."
    )
    projector_url: str | None = Field(default=None, repr=False)
    backup_url: str | None = Field(default=None, repr=False)
    restore_url: str | None = Field(default=None, repr=False)
    platform_url: str | None = Field(default=None, repr=False)


class OwnKafka(KafkaSettings):
    """The operator's Kafka: one user for all, or one a process."""

    topic_prefix: str = "secryn."
    users: dict[Literal["projector", "backup", "restore", "platform"], OwnKafkaUser] = Field(
        default_factory=dict
    )


class OwnKafkaUser(Section):
    """Who one process is on the operator's Kafka."""

    username: str
    password_file: Path


class Place(Section):
    """The whole file."""

    format: Literal[1] = 1
    instance_id: UUID
    environment: str = Field(default="default", min_length=1, max_length=64)
    environment_kind: Literal["production", "staging", "development"] = "development"
    ports: Ports = Ports()
    hosts: Hosts = Hosts()
    postgres: OwnPostgres | None = None
    kafka: OwnKafka | None = None
    # Per process what its settings file gets beside what the stack itself writes into it.
    settings: dict[Literal["projector", "backup", "restore"], dict[str, dict[str, Any]]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        numbers = list(self.ports.model_dump().values())
        if len(set(numbers)) != len(numbers):
            raise ValueError("two parts have the same port")
        return self


OwnKafka.model_rebuild()
Place.model_rebuild()


def load_place(path: Path) -> Place:
    """Read ``path``. Raises StackStateInvalid, naming what is wrong in it."""
    try:
        return Place.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise StackStateInvalid(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StackStateInvalid(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        raise StackStateInvalid(f"{path}: {faults(error)}") from None


def save_place(path: Path, place: Place) -> None:
    """Write ``place`` to ``path``, whole and durable."""
    document = place.model_dump(mode="json", exclude_none=True)
    write_secret_file(path, tomli_w.dumps(document).encode(), exist_ok=True)


def faults(error: ValidationError) -> str:
    """Say where and why a document is refused, without the values that it holds."""
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors(include_input=False, include_url=False)
    )
