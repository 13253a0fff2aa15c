"""Settings of who may come in: the same section in both services."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field

from shared.settings import Section, WebSettings

CALLBACK: Final = "/api/v1/session/oidc/callback"


class OidcSettings(Section):
    """An OpenID Connect provider that people sign in with: code flow with PKCE."""

    issuer: str = Field(
        pattern=r"^(https://|http://(127\.0\.0\.1|localhost|\[::1\])([:/]|$))",
        description="The provider's issuer, exactly as it calls itself; https but for loopback.",
    )
    client_id: str = Field(min_length=1)
    client_secret_file: Path | None = Field(
        default=None, description="A 0600 file with the client's secret; none for a public client."
    )
    redirect_url: str = Field(
        pattern=r"^https?://.+/api/v1/session/oidc/callback$",
        description="Where the provider sends a person back to: https://HOST/api/v1/session/oidc/callback.",
    )
    scope: str = Field(default="openid profile email", pattern=r"(^| )openid( |$)")
    claim: str = Field(
        default="preferred_username", min_length=1,
        description="The claim that is the name of a user of the instance; `email` counts only "
        "when the provider says that it is verified.",
    )  # fmt: skip
    tls_ca_file: Path | None = Field(default=None, description="Who signs its certificate.")


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
    oidc: OidcSettings | None = Field(
        default=None, description="The section of a provider that people sign in with, if any."
    )
    idle_s: int = Field(
        default=30 * 60, ge=1, le=7 * 86_400, description="A web session unused for so long ends."
    )
    absolute_s: int = Field(
        default=12 * 3600, ge=1, le=30 * 86_400, description="A web session ends after so long."
    )


def check_redirect(access: AccessSettings, web: WebSettings) -> None:
    """Compare where a provider sends people back to with where the pages are. Raises ValueError.

    Nothing is known of it where a proxy joins the services.
    """
    pages = (web.backup_url, web.restore_url)
    if access.oidc is None or not all(pages):
        return
    if access.oidc.redirect_url.removesuffix(CALLBACK) not in pages:
        raise ValueError(
            "access.oidc.redirect_url is neither at web.backup_url nor at web.restore_url: write "
            f"{web.backup_url}{CALLBACK}, or the addresses by which a browser finds the pages"
        )
