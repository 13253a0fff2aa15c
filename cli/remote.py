"""A place that is somewhere else: its URLs, whom to believe there, and who asks."""

from __future__ import annotations

import os
import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import httpx
import typer

from cli.options import CREDENTIAL_ENV, DEFAULT_STATE, STATE_ENV
from shared.errors import UsageError

URL_ENV: Final = "SECRYN_URL"
_URL_HINT: Final = "Write it like https://backup.example.org:8470, without a path or a password."


@dataclass(frozen=True)
class Remote:
    """Options before the command; ``url`` None is the stack of the state folder."""

    url: str | None = None
    restore_url: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    # Typed, and not from the environment.
    typed: bool = False

    @property
    def urls(self) -> tuple[str, str]:
        """Return both services' addresses. Raises UsageError when one is not an address."""
        assert self.url is not None
        urls = (self.url, self.restore_url or self.url)
        for url in urls:
            _check(url)
        return urls

    def trusted(self) -> ssl.SSLContext | None:
        """Return what to believe besides the usual. Raises UsageError."""
        if self.ca_file is None:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"the file {self.ca_file} holds no certificate that can be used"
                f" ({type(error).__name__})",
                hint="Name a PEM file with the certificates of whoever signed the services'.",
            ) from None


_NAMED: ContextVar[Remote] = ContextVar("remote")


def options(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(envvar=URL_ENV, help="Address of backup_service, in place of a state folder."),
    ] = None,
    restore_url: Annotated[
        str | None,
        typer.Option(
            envvar="SECRYN_RESTORE_URL", help="Address of restore_service; the same if not named."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar=CREDENTIAL_ENV,
            dir_okay=False,
            help="A 0600 file with the token that opens them.",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="SECRYN_CA_FILE", dir_okay=False, help="PEM file with whom https is believed."
        ),
    ] = None,
) -> None:
    """Keep the options that stand before the command, for the command."""
    source = context.get_parameter_source("url")
    typed = source is not None and source.name == "COMMANDLINE"
    before = _NAMED.set(Remote(url, restore_url, token_file, ca_file, typed))
    context.call_on_close(lambda: _NAMED.reset(before))


def remote(state: Path) -> Remote:
    """Return what stands before the running command, whose ``--state`` is ``state``.

    Raises UsageError when both name a place.
    """
    found = _NAMED.get(Remote())
    if found.url is None and found.restore_url is not None:
        raise UsageError("--restore-url is named and --url is not", hint="Name both services.")
    if found.url is not None and state not in (DEFAULT_STATE, Path(os.environ.get(STATE_ENV, ""))):
        raise UsageError(
            f"--state and --url (or {URL_ENV}) name two places", hint="Name one of them."
        )
    return found


def needs_state(command: str) -> None:
    """Refuse ``--url`` before a command that works on the state itself. Raises UsageError."""
    if _NAMED.get(Remote()).typed:
        raise UsageError(
            f"{command} needs the place's own files, and --url names a place somewhere else",
            hint="Run it where these files are, with --state.",
        )


def _check(url: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.userinfo:
        # It is not repeated: it may hold a password.
        raise UsageError("the URL names a user or a password", hint=_URL_HINT)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(f"{url!r} is not the address of a service", hint=_URL_HINT)
    if parsed.path not in ("", "/") or parsed.query or parsed.fragment:
        raise UsageError(f"{url!r} names more than a service", hint=_URL_HINT)
