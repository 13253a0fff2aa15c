"""From a state folder, or from two addresses, to the clients of both services."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cli.options import CREDENTIAL_ENV
from cli.remote import Remote, remote
from deploy.embedded.addresses import Address, address_of
from deploy.embedded.folder import open_state
from deploy.embedded.place import load_place
from shared.client import (
    AccessClient,
    AuditClient,
    BackupClient,
    ConfigurationClient,
    KeyClient,
    OperationsClient,
    RehearsalClient,
    RestoreClient,
    RetentionClient,
    ServiceConnection,
)
from shared.errors import NotAuthenticated, TargetMismatch, UsageError
from shared.secretfiles import read_secret_file

# Where receipts of restores go that are started from afar.
RECEIPTS = Path("secryn-receipts")


@dataclass(frozen=True)
class Identity:
    """Which instance a place holds, and what kind of place it is."""

    instance_id: str
    environment: str
    environment_kind: str


@dataclass(frozen=True)
class Reached:
    """How a service is reached: whom to believe there, and for which name its certificate is."""

    url: str
    trusted: ssl.SSLContext | None = None
    server_name: str | None = None

    def connection(self, token: str) -> ServiceConnection:
        """Return a connection that is known by ``token``."""
        return ServiceConnection(
            self.url, token, trusted=self.trusted, server_name=self.server_name
        )


@dataclass(frozen=True)
class Connected:
    """Both services of one place."""

    backups: BackupClient
    configuration: ConfigurationClient
    keys: KeyClient
    retention: RetentionClient
    restores: RestoreClient
    rehearsals: RehearsalClient
    access: AccessClient
    operations: OperationsClient
    audit: AuditClient
    restore_audit: AuditClient
    identify: Callable[[], Identity]
    receipts: Path

    @cached_property
    def place(self) -> Identity:
        """Which instance it is; asked for once, where a command needs it."""
        return self.identify()

    @property
    def instance_id(self) -> str:
        return self.place.instance_id

    @property
    def environment(self) -> str:
        return self.place.environment

    @property
    def environment_kind(self) -> str:
        return self.place.environment_kind


@contextmanager
def connected(state: Path, token_file: Path | None = None) -> Iterator[Connected]:
    """Open the services of the stack in ``state``, or of the place that the command line names.

    The first line of ``token_file`` is the token, or that of the file that the command line or
    SECRYN_TOKEN_FILE names, or the state's own.

    Raises StackNotRunning when there is no stack, UnknownSetting when the token is unreadable.
    """
    elsewhere = remote(state)
    named = token_file or elsewhere.token_file or _token_file_of_environment()
    if elsewhere.url is not None:
        backup, restore = (Reached(url, elsewhere.trusted()) for url in elsewhere.urls)
        with _open(backup, restore, _token(named), None, RECEIPTS) as found:
            yield found
        return
    folder = open_state(state)
    place = load_place(folder.place)
    backup, restore = (
        _reached(address_of(folder, place, name), elsewhere) for name in ("backup", "restore")
    )
    identity = Identity(str(place.instance_id), place.environment, place.environment_kind)
    receipts = folder.root / "receipts"
    with _open(backup, restore, _token(named or folder.token), identity, receipts) as found:
        yield found


def _reached(address: Address, elsewhere: Remote) -> Reached:
    """Return how a service of this machine is reached: ``--ca-file`` counts here, too."""
    if address.tls is None:
        return Reached(address.url)
    return Reached(address.url, elsewhere.trusted() or address.trusted(), address.server_name)


@contextmanager
def _open(
    at_backup: Reached, at_restore: Reached, token: str, known: Identity | None, receipts: Path
) -> Iterator[Connected]:
    with at_backup.connection(token) as backup, at_restore.connection(token) as restore:
        backups = BackupClient(backup)
        yield Connected(
            backups,
            ConfigurationClient(backup),
            KeyClient(backup, backups.view_key),
            RetentionClient(backup),
            RestoreClient(restore),
            RehearsalClient(restore),
            AccessClient(backup),
            OperationsClient(backup),
            AuditClient(backup),
            AuditClient(restore),
            (lambda: known) if known is not None else (lambda: _identify(backup, restore)),
            receipts,
        )


def _identify(backup: ServiceConnection, restore: ServiceConnection) -> Identity:
    """Ask both services which instance they hold. Raises TargetMismatch when it is not one."""
    told = {each.base_url: each.ready().get("place") for each in (restore, backup)}
    # A receipt is known to one of them only.
    known = {url: Identity(**place) for url, place in told.items() if place is not None}
    if not known:
        raise NotAuthenticated("the services do not know the token")
    if len(set(known.values())) > 1:
        which = ", ".join(f"{url} holds {place.instance_id}" for url, place in known.items())
        raise TargetMismatch(
            f"the two addresses are of two places: {which}",
            hint="Name both services of one place with --url and --restore-url.",
        )
    return next(iter(known.values()))


def _token_file_of_environment() -> Path | None:
    named = os.environ.get(CREDENTIAL_ENV)
    return Path(named) if named else None


def _token(file: Path | None) -> str:
    if file is None:
        raise UsageError(
            "no token is named", hint=f"Name its file: --token-file FILE, or {CREDENTIAL_ENV}."
        )
    return read_secret_file(file).decode("ascii").partition("\n")[0].strip()
