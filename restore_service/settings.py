"""Settings of restore_service's process."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.settings import HttpSettings, KafkaSettings, PlaceSettings, PostgresSettings, Section


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
    undo_window_s: int = Field(
        default=86_400, ge=0, description="How long the replaced state is kept."
    )
    recipient_lifetime_s: int = Field(
        default=3600, ge=60, description="How often the recipient of sealed keys is replaced."
    )
    upload_max_bytes: int = Field(default=1 << 44, ge=1)


class RestoreServiceSettings(Section):
    """What `python -m restore_service --config FILE` reads."""

    postgres: PostgresSettings
    kafka: KafkaSettings
    place: PlaceSettings
    http: HttpSettings
    storage: FolderSettings
    uploads: FolderSettings
    recipients: FolderSettings
    restore: RestoreSettings = RestoreSettings()
