"""The client of who may come in: API tokens, administrators."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from shared.api.access import Administrator, NewToken, Session, Token, TokenList
from shared.client.http import Json, ServiceConnection


class AccessClient:
    """Make, list and revoke API tokens; make an administrator."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.connection = connection

    def session(self) -> Session:
        """Return who the holder of this connection's token is, and what it may do."""
        return self.connection.ask(Session, "GET", "/api/v1/session")

    def create_token(
        self,
        name: str,
        permissions: Iterable[str],
        *,
        expires_in_s: int,
        unattended: bool = False,
    ) -> NewToken:
        """Make a token; ``token`` in the answer is shown this once."""
        body: Json = {
            "name": name,
            "permissions": sorted(permissions),
            "expires_in_s": expires_in_s,
            "unattended": unattended,
        }
        return self.connection.ask(NewToken, "POST", "/api/v1/tokens", body)

    def tokens(self) -> list[Token]:
        """Return every token, the newest first: never the token itself."""
        return self.connection.ask(TokenList, "GET", "/api/v1/tokens")["tokens"]

    def revoke_token(self, name: str) -> Token:
        """End a token at once. Raises TokenNotFound."""
        path = f"/api/v1/tokens/{quote(name, safe='')}/revoke"
        return self.connection.ask(Token, "POST", path, {})

    def create_administrator(
        self, username: str, password: str, *, display_name: str = "", email: str = ""
    ) -> Administrator:
        """Make a user who may do everything about backups; return its ids, once it is stored."""
        body: Json = {
            "username": username, "password": password, "display_name": display_name,
            "email": email,
        }  # fmt: skip
        return self.connection.ask(Administrator, "POST", "/api/v1/administrators", body)
