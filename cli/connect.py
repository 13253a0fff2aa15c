"""From a state folder to the clients of its services."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.options import CREDENTIAL_ENV
from deploy.embedded.folder import StateFolder, open_state
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
from shared.secretfiles import read_secret_file

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Connected:
    """Both services of one stack, and which instance they hold."""

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
    instance_id: str
    environment: str
    environment_kind: str
    folder: StateFolder


@contextmanager
def connected(state: Path, token_file: Path | None = None) -> Iterator[Connected]:
    """Open the services of the stack in ``state`` with the operator's token, or another one.

    The first line of ``token_file``, or of the file that SECRYN_TOKEN_FILE names, is the token.

    Raises StackNotRunning when there is no stack, UnknownSetting when the token is unreadable.
    """
    folder = open_state(state)
    place = load_place(folder.place)
    named = os.environ.get(CREDENTIAL_ENV)
    content = read_secret_file(token_file or (Path(named) if named else folder.token)).decode(
        "ascii"
    )
    token = content.partition("\n")[0].strip()
    with (
        ServiceConnection(f"http://{HOST}:{place.ports.backup}", token) as backup,
        ServiceConnection(f"http://{HOST}:{place.ports.restore}", token) as restore,
    ):
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
            str(place.instance_id),
            place.environment,
            place.environment_kind,
            folder,
        )
