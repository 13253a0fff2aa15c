"""Settings of who may come in: the same section in both services."""

from __future__ import annotations

from pydantic import Field

from shared.settings import Section


class AccessSettings(Section):
    """How long a session lasts, and who owns what both services keep about access."""

    owner_role: str | None = Field(
        default=None, min_length=1, max_length=63,
        description="The PostgreSQL role that owns the schema `access`; both services' roles are "
        "members of it. None: both services use one role.",
    )  # fmt: skip
    proof_max_age_s: int = Field(
        default=300, ge=1, le=24 * 3600,
        description="How old the proof of identity may be of whoever views a key, restores, "
        "deletes or makes a token.",
    )  # fmt: skip
    idle_s: int = Field(
        default=30 * 60, ge=1, le=7 * 86_400, description="A web session unused for so long ends."
    )
    absolute_s: int = Field(
        default=12 * 3600, ge=1, le=30 * 86_400, description="A web session ends after so long."
    )
