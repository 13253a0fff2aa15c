"""Write what each process of a stack reads: its settings, its credentials, its keys."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psycopg
import tomli_w

from deploy.embedded.addresses import address_of
from deploy.embedded.database import ACCESS, BACKUP, DATABASE, ROLES, write_passfile
from deploy.embedded.folder import StateFolder
from deploy.embedded.place import Place
from deploy.embedded.postgres import SUPERUSER
from deploy.embedded.users import ALL_USERS, CONTROLLER
from shared.errors import UnknownSetting
from shared.secretfiles import write_secret_file
from shared.settings import KafkaSettings

ProcessName = Literal["projector", "backup", "restore"]
SERVICE_ROLES: Mapping[ProcessName, str] = {
    "projector": "secryn_projector",
    "backup": "secryn_backup",
    "restore": "secryn_restore",
}
TOKEN_BYTES = 32
PASSWORD_BYTES = 24
OPERATOR_PASSFILE = "operator"


def ensure_credentials(state: StateFolder) -> None:
    """Make every password and the operator's token that is not there yet."""
    for role in (SUPERUSER, *ROLES):
        write_passfile(state.passfile(role), role)
    for user in (*ALL_USERS, CONTROLLER):
        _ensure(state.kafka_password(user), PASSWORD_BYTES)
    _ensure(state.token, TOKEN_BYTES)
    if not state.bootstrap.exists():
        write_bootstrap(state)


def write_bootstrap(state: StateFolder) -> None:
    """Make the credential of an instance without users, in place of the one before."""
    token, made_at = secrets.token_urlsafe(TOKEN_BYTES), datetime.now(UTC).isoformat()
    write_secret_file(state.bootstrap, f"{token}\n{made_at}\n".encode("ascii"), exist_ok=True)


def _ensure(path: Path, size: int) -> None:
    if not path.exists():
        write_secret_file(path, secrets.token_urlsafe(size).encode())


def topic_prefix(place: Place) -> str:
    """Return what every topic of this place begins with."""
    return place.kafka.topic_prefix if place.kafka is not None else "secryn."


def postgres_dsn(state: StateFolder, place: Place, role: str) -> str:
    """Return the libpq string of one role, without a password in it.

    Raises UnknownSetting when the operator's URL is not one.
    """
    own = place.postgres
    if own is None:
        return psycopg.conninfo.make_conninfo(
            host=place.hosts.postgres, port=place.ports.postgres, dbname=DATABASE, user=role,
            passfile=str(state.passfile(role)),
        )  # fmt: skip
    named = getattr(own, f"{role.removeprefix('secryn_')}_url", None)
    return strip_password(named or own.url, state.passfile(f"{OPERATOR_PASSFILE}-{role}"))


def strip_password(url: str, passfile: Path) -> str:
    """Return ``url`` as a libpq string, with its password moved into ``passfile``."""
    try:
        parameters = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # libpq's message repeats the URL, which may hold a password.
        raise UnknownSetting("the PostgreSQL URL is not one that libpq understands") from None
    password = parameters.pop("password", None)
    if password is not None:
        escaped = str(password).replace("\\", "\\\\").replace(":", "\\:")
        write_secret_file(passfile, f"*:*:*:*:{escaped}\n".encode(), exist_ok=True)
        parameters["passfile"] = str(passfile)
    return psycopg.conninfo.make_conninfo("", **parameters)


def kafka_settings(state: StateFolder, place: Place, user: str) -> KafkaSettings:
    """Return how one user (``admin``, ``projector``, ...) reaches this place's Kafka."""
    own = place.kafka
    if own is None:
        return KafkaSettings(
            bootstrap=f"{place.hosts.kafka}:{place.ports.kafka}",
            username=user,
            password_file=state.kafka_password(user),
        )
    fields = own.model_dump(exclude={"users"})
    named = {name: who for name, who in own.users.items() if name == user}
    for who in named.values():
        fields |= who.model_dump()
    return KafkaSettings(**fields)


def write_configs(state: StateFolder, place: Place) -> None:
    """Write ``config/NAME.toml`` for every process and platform service, anew at every start."""
    for name in SERVICE_ROLES:
        content = tomli_w.dumps(process_settings(state, place, name)).encode()
        write_secret_file(state.config(name), content, exist_ok=True)
    platform = tomli_w.dumps(platform_settings(state, place)).encode()
    write_secret_file(state.config("platform"), platform, exist_ok=True)


def platform_settings(state: StateFolder, place: Place) -> dict[str, Any]:
    """Return what a platform service reads: its own credentials and the place's root key."""
    kafka = kafka_settings(state, place, "platform").model_dump(mode="json", exclude_none=True)
    return {
        "postgres": {"dsn": postgres_dsn(state, place, "secryn_platform")},
        "kafka": kafka,
        "place": {"root_key_file": str(state.key("root.key"))},
    }


def process_settings(state: StateFolder, place: Place, name: ProcessName) -> dict[str, Any]:
    """Return the settings document of one process."""
    key = "restore" if name == "restore" else "backup"
    kafka = kafka_settings(state, place, name).model_dump(mode="json", exclude_none=True)
    document: dict[str, Any] = {
        "postgres": {"dsn": postgres_dsn(state, place, SERVICE_ROLES[name])},
        "kafka": kafka,
        "place": {
            "instance_id": str(place.instance_id),
            "environment": place.environment,
            "environment_kind": place.environment_kind,
            "root_key_file": str(state.key("root.key")),
            "signing_key_file": str(state.key(f"{key}-signing.key")),
            "trusted_signers_file": str(state.key("trusted-signers.toml")),
            "issuers_file": str(state.key("issuers.toml")),
        },
        "http": {
            "host": place.hosts.listen,
            "port": getattr(place.ports, name),
            "token_file": str(state.token),
        },
    }
    if name == "projector":
        document["fold"] = _fold_section(state, place)
    else:
        document["web"] = {
            "backup_url": address_of(state, place, "backup").url,
            "restore_url": address_of(state, place, "restore").url,
        }
    document |= _EXTRA_SECTIONS.get(name, lambda _: {})(state)
    if name != "projector" and place.postgres is None:
        document["access"] = {"owner_role": ACCESS}
    if name == "restore" and place.postgres is None:
        document["restore"] = {"database_folder": str(state.folder("postgres"))}
    for section, values in place.settings.get(name, {}).items():
        document[section] = document.get(section, {}) | values
    return document


def _fold_section(state: StateFolder, place: Place) -> dict[str, Any]:
    parameters = psycopg.conninfo.conninfo_to_dict(postgres_dsn(state, place, BACKUP))
    role = parameters.get("user")
    return {} if role is None else {"position_role": str(role)}


def _backup_sections(state: StateFolder) -> dict[str, Any]:
    return {
        "storage": {"folder": str(state.folder("backups"))},
        "keys": {"folder": str(state.folder("keks"))},
        "bootstrap_file": str(state.bootstrap),
    }


def _restore_sections(state: StateFolder) -> dict[str, Any]:
    return {
        "storage": {"folder": str(state.folder("backups"))},
        "uploads": {"folder": str(state.folder("uploads"))},
        "recipients": {"folder": str(state.folder("recipients"))},
        "bootstrap_file": str(state.bootstrap),
    }


_EXTRA_SECTIONS = {"backup": _backup_sections, "restore": _restore_sections}
