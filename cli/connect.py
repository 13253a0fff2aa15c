"""From a state folder to the clients of its services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.folder import open_state
from deploy.embedded.place import load_place
from shared.client import BackupClient, RestoreClient, ServiceConnection
from shared.secretfiles import read_secret_file

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Connected:
    """Both services of one stack, and which instance they hold."""

    backups: BackupClient
    restores: RestoreClient
    instance_id: str
    environment: str


@contextmanager
def connected(state: Path) -> Iterator[Connected]:
    """Open the services of the stack in ``state`` with the operator's token.

    Raises StackNotRunning when there is no stack, UnknownSetting when the token is unreadable.
    """
    folder = open_state(state)
    place = load_place(folder.place)
    token = read_secret_file(folder.token).decode("ascii")
    with (
        ServiceConnection(f"http://{HOST}:{place.ports.backup}", token) as backup,
        ServiceConnection(f"http://{HOST}:{place.ports.restore}", token) as restore,
    ):
        yield Connected(
            BackupClient(backup),
            RestoreClient(restore),
            str(place.instance_id),
            place.environment,
        )
