"""Settings of backup_service's process."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from serving.access.settings import AccessSettings, check_redirect
from shared.apart import beside_what
from shared.settings import (
    HttpSettings,
    KafkaSettings,
    PlaceSettings,
    PostgresSettings,
    Section,
    WebSettings,
    check_own_url,
)


class StorageSettings(Section):
    """Where encrypted backups are kept."""

    folder: Path = Field(description="A folder of this machine.")


class KeySettings(Section):
    """Where the keys that wrap waiting one-time keys are kept: away from the backups."""

    folder: Path = Field(description="A folder that lies neither in the storage nor around it.")
    repeat_window_s: int = Field(
        default=600, ge=1, le=3600, description="How long a viewing may be repeated."
    )
    expire_after_s: int = Field(
        default=7 * 24 * 3600, ge=60, le=366 * 24 * 3600,
        description="How long a key waits to be viewed. The newest one waits on while no newer "
        "backup can be opened.",
    )  # fmt: skip


class BackupSettings(Section):
    """How a backup is made."""

    readers: int = Field(default=2, ge=1, le=16, description="Parallel readers of one snapshot.")
    part_bytes: int = Field(
        default=8 * 1024 * 1024, ge=64 * 1024, le=32 * 1024 * 1024,
        description="COPY data of one part, before compression.",
    )  # fmt: skip
    zstd_level: int = Field(default=1, ge=-7, le=19)
    key_type: Literal["mlkem768x25519", "x25519"] = Field(
        default="mlkem768x25519", description="Kind of the one-time key."
    )
    barrier_timeout_s: float = Field(default=60, gt=0, le=3600)
    least_free_bytes: int = Field(
        default=64 * 1024 * 1024, ge=0, description="Space that a backup must leave free."
    )


class BackupServiceSettings(Section):
    """What `python -m backup_service --config FILE` reads."""

    postgres: PostgresSettings
    kafka: KafkaSettings
    place: PlaceSettings
    http: HttpSettings
    storage: StorageSettings
    keys: KeySettings
    backup: BackupSettings = BackupSettings()
    access: AccessSettings = AccessSettings()
    web: WebSettings = WebSettings()
    bootstrap_file: Path | None = Field(
        default=None,
        description="A 0600 file with the credential that makes the first administrator of an "
        "instance without users.",
    )

    @model_validator(mode="after")
    def _is_found_as_it_speaks(self) -> Self:
        check_own_url(self.http, self.web.backup_url, "web.backup_url")
        check_redirect(self.access, self.web)
        return self

    @model_validator(mode="after")
    def _keys_lie_apart(self) -> Self:
        found = beside_what(self.keys.folder, self.storage.folder)
        if found is not None:
            raise ValueError(
                f"keys.folder lies beside {found}: name a folder outside of storage.folder, and "
                "of every database's"
            )
        return self
