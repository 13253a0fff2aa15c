"""Settings of the projector's process."""

from __future__ import annotations

from pydantic import Field

from shared.settings import HttpSettings, KafkaSettings, PlaceSettings, PostgresSettings, Section


class FoldSettings(Section):
    """How the projector reads and stores."""

    batch_events: int = Field(
        default=5_000, ge=1, le=50_000, description="Events of one transaction at most."
    )
    position_role: str | None = Field(
        default=None,
        description="PostgreSQL role of backup_service: it may then move the store's position.",
    )
    poll_timeout_s: float = Field(
        default=0.5, gt=0, le=30, description="How long one read of the log waits for events."
    )


class ProjectorSettings(Section):
    """What `python -m backup_service.projector --config FILE` reads.

    Of ``place`` it opens no key: only the file of issuers, to know a real restore event.
    """

    postgres: PostgresSettings
    kafka: KafkaSettings
    place: PlaceSettings
    http: HttpSettings
    fold: FoldSettings = FoldSettings()
