"""Settings of restore_service's process."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from restore_service.window import Window, zone_of
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


class FolderSettings(Section):
    """A folder of this machine."""

    folder: Path


class RestoreSettings(Section):
    """How a restore goes."""

    guard_wait_s: float = Field(
        default=600, gt=0, description="How long a running backup is waited for."
    )
    fence_wait_s: float = Field(
        default=10, gt=0, le=600, description="How long the projector may take to see the fence."
    )
    drain_wait_s: float = Field(
        default=10, ge=0, le=3600,
        description="How long transactions older than the loaded state may go on; then they are ended.",
    )  # fmt: skip
    lock_timeout_ms: int = Field(
        default=500, ge=10, le=60_000, description="One try for the locks of the cut-over."
    )
    cutover_wait_s: float = Field(
        default=60, gt=0, le=3600,
        description="How long the locks are tried for; sessions in the way are ended at half of it.",
    )  # fmt: skip
    hashers: int = Field(
        default=2, ge=1, le=64,
        description="How many processes hash the rows of what was loaded; as many cores as may be used.",
    )  # fmt: skip
    undo_window_s: int = Field(
        default=86_400, ge=0, description="How long the replaced state is kept."
    )
    database_folder: Path | None = Field(
        default=None,
        description="PostgreSQL's data folder as it is seen from here, to know what is free there.",
    )
    least_free_bytes: int = Field(
        default=256 * 1024 * 1024, ge=0, description="What a restore leaves free on that disk."
    )
    windows: tuple[str, ...] = Field(
        default=(),
        description="When a restore may replace the instance without a reason: "
        "`mon-fri 22:00-05:00`. None: always. An undo may at any time.",
    )
    window_zone: str = Field(default="UTC", description="IANA time zone of the windows.")
    notice_text: str | None = Field(
        default=None, min_length=1, max_length=2000,
        description="Told to the platforms before a restore or an undo begins, and when it is over.",
    )  # fmt: skip
    notice_lead_s: int = Field(
        default=0, ge=0, le=86_400, description="How long before the restore that is told."
    )
    undo_notice_lead_s: int = Field(
        default=0, ge=0, le=3600, description="The same, before an undo: it is often urgent."
    )
    approval_ttl_s: int = Field(
        default=86_400, ge=1,
        description="How long a restore waits for approval, and then for its start.",
    )  # fmt: skip
    recipient_lifetime_s: int = Field(
        default=3600, ge=60, description="How often the recipient of sealed keys is replaced."
    )
    upload_max_bytes: int = Field(default=1 << 44, ge=1)

    @field_validator("windows")
    @classmethod
    def _windows(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            Window(text)
        return texts

    @field_validator("window_zone")
    @classmethod
    def _zone(cls, name: str) -> str:
        zone_of(name)
        return name

    def begins_at(self, asked_at: datetime) -> datetime:
        """Return when a restore begins at the earliest: a notice goes before it."""
        lead_s = 0 if self.notice_text is None else self.notice_lead_s
        return asked_at + timedelta(seconds=lead_s)

    def in_window(self, moment: datetime) -> bool:
        """Tell whether a restore may begin at ``moment`` without a reason."""
        local = moment.astimezone(zone_of(self.window_zone))
        return not self.windows or any(Window(text).holds(local) for text in self.windows)


class RehearsalSettings(Section):
    """What rehearsals by themselves need of the place."""

    identity_file: Path | None = Field(
        default=None,
        description="A 0600 file with the age identity of a standing own recipient: with it the "
        "newest backup is rehearsed by itself (`secryn rehearsal set`). Outside of storage.folder.",
    )


class RestoreServiceSettings(Section):
    """What `python -m restore_service --config FILE` reads."""

    postgres: PostgresSettings
    kafka: KafkaSettings
    place: PlaceSettings
    http: HttpSettings
    storage: FolderSettings
    uploads: FolderSettings
    recipients: FolderSettings
    bootstrap_file: Path = Field(
        description="A 0600 file with the credential that restores into an instance without users."
    )
    restore: RestoreSettings = RestoreSettings()
    rehearsal: RehearsalSettings = RehearsalSettings()
    access: AccessSettings = AccessSettings()
    web: WebSettings = WebSettings()

    @model_validator(mode="after")
    def _identity_lies_apart(self) -> Self:
        file = self.rehearsal.identity_file
        found = None if file is None else beside_what(file, self.storage.folder)
        if found is not None:
            raise ValueError(
                f"rehearsal.identity_file lies beside {found}: name a file outside of "
                "storage.folder, and of every database's"
            )
        return self

    @model_validator(mode="after")
    def _is_found_as_it_speaks(self) -> Self:
        check_own_url(self.http, self.web.restore_url, "web.restore_url")
        check_redirect(self.access, self.web)
        return self
