"""The client of who may come in: API tokens, administrators."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from shared.client.http import Json, ServiceConnection


class AccessClient:
    """Make, list and revoke API tokens; make an administrator."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.connection = connection

    def create_token(
        self,
        name: str,
        permissions: Iterable[str],
        *,
        expires_in_s: int,
        unattended: bool = False,
    ) -> Json:
        """Make a token; ``token`` in the answer is shown this once."""
        body = {
            "name": name,
            "permissions": sorted(permissions),
            "expires_in_s": expires_in_s,
            "unattended": unattended,
        }
        return self.connection.call("POST", "/api/v1/tokens", body)

    def tokens(self) -> list[Json]:
        """Return every token, the newest first: never the token itself."""
        found: list[Json] = self.connection.call("GET", "/api/v1/tokens")["tokens"]
        return found

    def revoke_token(self, name: str) -> Json:
        """End a token at once. Raises TokenNotFound."""
        path = f"/api/v1/tokens/{quote(name, safe='')}/revoke"
        return self.connection.call("POST", path, {})

    def create_administrator(
        self, username: str, password: str, *, display_name: str = "", email: str = ""
    ) -> Json:
        """Make a user who may do everything about backups; return its ids, once it is stored."""
        body = {
            "username": username, "password": password, "display_name": display_name,
            "email": email,
        }  # fmt: skip
        return self.connection.call("POST", "/api/v1/administrators", body)
