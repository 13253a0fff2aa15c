"""Settings: frozen, validated sections that both services share, and the loader.

A process reads one TOML file (``--config FILE``) and then the environment
(``SECRYN_<SECTION>__<FIELD>``, which wins). Anything unknown is refused at the start.
Secrets are never in a setting: a setting names the file (mode 0600) that holds one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ValidationError,
    field_validator,
    model_validator,
)

from shared.crashpoints import ENV as CRASH_POINTS
from shared.errors import UnknownSetting
from shared.settingfaults import told_faults

ENV_PREFIX = "SECRYN_"
CONFIG_ENV = "SECRYN_CONFIG"
# Read by the command line itself, or set by a test: never a setting of a service.
ENV_OF_NO_SETTING = frozenset(
    {
        "SECRYN_STATE",
        "SECRYN_TOKEN_FILE",
        "SECRYN_URL",
        "SECRYN_RESTORE_URL",
        "SECRYN_CA_FILE",
        "SECRYN_CACHE",
        CONFIG_ENV,
        "SECRYN_MAVEN_URL",
        "SECRYN_POSTGRES_URL",
        # Of docker-compose.yml.
        "SECRYN_PLACE",
        "SECRYN_VERSION",
        CRASH_POINTS,
    }
)


class Section(BaseModel):
    """A frozen group of settings that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PostgresSettings(Section):
    """Where PostgreSQL is."""

    # A password does not belong in it; one that is there all the same is shown nowhere.
    dsn: str = Field(
        repr=False,
        description="libpq connection string or URL, without a password: name a passfile in it.",
    )
    pool_max: int = Field(default=8, ge=1, le=100, description="Connections of one process.")
    connect_timeout_s: int = Field(default=10, ge=1, le=300)

    @field_validator("dsn")
    @classmethod
    def _libpq_reads_it(cls, dsn: str) -> str:
        # The command line reads settings without a database, and need not load its client.
        import psycopg

        try:
            psycopg.conninfo.conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            # libpq's message repeats it, and it may hold a password.
            raise ValueError(
                "it is not one that libpq understands: write postgresql://USER@HOST:PORT/DATABASE "
                "or host=HOST port=PORT dbname=DATABASE user=USER"
            ) from None
        return dsn

    def named(self, name: str) -> Self:
        """Return these settings with ``name`` as what the server calls every session."""
        import psycopg

        dsn = psycopg.conninfo.make_conninfo(self.dsn, application_name=name)
        return self.model_copy(update={"dsn": dsn})


class KafkaSettings(Section):
    """Where Kafka is, and who this process is there."""

    bootstrap: str = Field(description="host:port, several separated by commas.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "SASL_PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-256"
    username: str | None = None
    password_file: Path | None = Field(default=None, description="A 0600 file with the password.")
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    topic_prefix: str = Field(default="secryn.", description="What every topic's name begins with.")
    replication_factor: int = Field(default=1, ge=1, le=9)

    @field_validator("bootstrap")
    @classmethod
    def _names_servers(cls, bootstrap: str) -> str:
        for server in bootstrap.split(","):
            host, _, port = server.strip().rpartition(":")
            if "/" in server or not host or not port.isdecimal():
                raise ValueError(
                    "it is a list of servers and no URL: write HOST:PORT, several separated by "
                    "commas; how they are spoken to is kafka.security_protocol"
                )
        return bootstrap

    @model_validator(mode="after")
    def _protocol_and_credentials_agree(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file are named together or not at all")
        if self.username is not None and not self.security_protocol.startswith("SASL"):
            raise ValueError(
                f"a username is named, and security_protocol {self.security_protocol} takes none: "
                "write SASL_SSL or SASL_PLAINTEXT"
            )
        named = (self.tls_ca_file, self.tls_cert_file, self.tls_key_file)
        if any(named) and not self.security_protocol.endswith("SSL"):
            raise ValueError(
                f"TLS files are named, and security_protocol {self.security_protocol} does "
                "without TLS: write SASL_SSL or SSL"
            )
        return self


class PlaceSettings(Section):
    """What belongs to the place and not to the data: a restore never changes it."""

    instance_id: UUID
    environment: str = Field(default="default", min_length=1, max_length=64)
    environment_kind: Literal["production", "staging", "development"] = "development"
    root_key_file: Path = Field(description="32 random bytes in hex, mode 0600.")
    signing_key_file: Path = Field(description="This service's Ed25519 signing key, mode 0600.")
    trusted_signers_file: Path = Field(description="Public keys whose archives are trusted (TOML).")
    issuers_file: Path = Field(description="Public keys that may issue commands, and their rights.")


class HttpSettings(Section):
    """Where the HTTP interface listens and what opens it."""

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    threads: int = Field(default=16, ge=2, le=512, description="For what is answered at once.")
    watchers: int = Field(
        default=256,
        ge=1,
        le=4096,
        description="How many may watch at once, each with a thread; one more is told to come back.",
    )
    token_file: Path = Field(description="A 0600 file with the operator's token.")
    check_answers: bool = Field(
        default=False,
        description="Hold every answer against its documented model; one that differs is an error.",
    )
    tls_cert_file: Path | None = Field(
        default=None, description="PEM file with the certificate and its chain: speak TLS."
    )
    tls_key_file: Path | None = Field(default=None, description="PEM file with its key, 0600.")
    tls_ca_file: Path | None = Field(
        default=None,
        description="PEM file with whoever signed it: whom `secryn` and the supervisor of the "
        "embedded stack believe. None: the system's, and the certificate itself.",
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        default=(),
        description="Networks whose X-Forwarded-For and X-Forwarded-Proto are believed; nobody "
        "else's are.",
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file are named together or not at all")
        if self.tls_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_ca_file is named, and without tls_cert_file there is no TLS")
        return self


class WebSettings(Section):
    """Where the pages of both services are found, as a browser sees it."""

    backup_url: str = Field(
        default="",
        pattern=r"^(https?://[^/\s]+)?$",
        description="What stands before `/admin/backups`; empty where a proxy joins the services.",
    )
    restore_url: str = Field(
        default="",
        pattern=r"^(https?://[^/\s]+)?$",
        description="What stands before `/admin/restore`; empty where a proxy joins the services.",
    )


def check_own_url(http: HttpSettings, url: str, name: str) -> None:
    """Compare how a service speaks with the address by which it is found. Raises ValueError."""
    if http.tls_cert_file is not None and url.startswith("http://"):
        raise ValueError(
            f"{name} begins with http://, and with http.tls_cert_file this service speaks TLS: "
            "write https://"
        )


S = TypeVar("S", bound=Section)


def load_settings(
    model: type[S], config: Path | None, environ: Mapping[str, str] | None = None
) -> S:
    """Read ``config`` and the environment into one ``model``.

    Raises UnknownSetting, naming every field that is missing, unknown or malformed.
    """
    environ = os.environ if environ is None else environ
    raw: dict[str, Any] = {}
    if config is not None:
        try:
            raw = tomllib.loads(config.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UnknownSetting(f"the settings file {config} does not exist") from error
        except OSError as error:
            raise UnknownSetting(
                f"the settings file {config} cannot be read: {error.strerror}"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UnknownSetting(f"the settings file {config} is not TOML: {error}") from error
    variables = _merge_environment(raw, environ)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        told = told_faults(error, model, variables)
        raise UnknownSetting(f"settings are refused: {told}") from None


def _merge_environment(raw: dict[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Put variables over ``raw``; return the setting that each gave, with its variable."""
    given = {}
    for name, value in environ.items():
        if not name.startswith(ENV_PREFIX) or name in ENV_OF_NO_SETTING:
            continue
        target = raw
        *sections, field = name[len(ENV_PREFIX) :].lower().split("__")
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise UnknownSetting(f"{name} names a section that is a plain value in the file")
        target[field] = value
        given[".".join([*sections, field])] = name
    return given
