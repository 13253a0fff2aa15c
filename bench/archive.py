"""The archive: a snapshot of the sample into a stored file, and that file read back and proven."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from backup_service.settings import BackupServiceSettings
from backup_service.snapshot.archive import WrittenArchive, make_header, write_archive
from backup_service.snapshot.proof import prove
from backup_service.snapshot.session import Snapshot, open_snapshot
from bench.figure import MB, Figure, measured
from bench.machine import Machine
from deploy.embedded.folder import open_state
from shared.archive.age import HybridIdentity
from shared.instance.keyring import RootKey
from shared.messages import SigningKey
from shared.settings import load_settings
from shared.storage import LocalFolder

TIMES = 3


def run(machine: Machine) -> list[Figure]:
    """Write and prove a few times, with the service's own settings; the best of each counts."""
    # Nothing is measured before the sample is in the store.
    assert machine.loaded.events > 0
    rounds = [_Round(machine) for _ in range(TIMES)]
    for one in rounds:
        one.run()
    written, proven = min(r.write_s for r in rounds), min(r.prove_s for r in rounds)
    first = rounds[0]
    return [
        Figure("archive, rows in it", first.rows, "rows"),
        Figure("archive, COPY data in it", first.raw_mb, "MB"),
        Figure("archive, size", first.stored_mb, "MB"),
        Figure("archive write", first.raw_mb / written, "MB/s"),
        Figure("archive write, rows", first.rows / written, "rows/s"),
        Figure("archive verify", first.raw_mb / proven, "MB/s"),
        Figure("archive verify, rows", first.rows / proven, "rows/s"),
    ]


class _Round:
    """One archive: written from a snapshot, then proven as a backup is."""

    def __init__(self, machine: Machine) -> None:
        config = open_state(machine.state).config("backup")
        self._settings = load_settings(BackupServiceSettings, config, environ={})
        self._objects = LocalFolder(machine.folder / "archives")
        self._name = f"{uuid4()}.age"
        self._identity = HybridIdentity.generate()
        self.rows, self.raw_mb, self.stored_mb = 0, 0.0, 0.0
        self.write_s = self.prove_s = 0.0

    def run(self) -> None:
        with open_snapshot(self._settings.postgres.dsn) as snapshot, measured() as watch:
            written = self._write(snapshot)
        self.write_s = watch.seconds
        with measured() as watch:
            prove(self._objects, self._name, written.summary, self._identity, lambda _: None)
        self.prove_s = watch.seconds
        self.stored_mb = written.summary.size_bytes / MB
        self._objects.delete(self._name)

    def _write(self, snapshot: Snapshot) -> WrittenArchive:
        place = self._settings.place
        writer = self._objects.create(self._name)
        try:
            written = write_archive(
                snapshot,
                writer,
                [self._identity.to_recipient()],
                make_header(uuid4(), place, snapshot, datetime.now(UTC)),
                root=RootKey.load(place.root_key_file),
                signer=SigningKey.load(place.signing_key_file),
                settings=self._settings.backup,
                on_progress=self._note,
            )
            writer.commit()
        finally:
            writer.abort()
        return written

    def _note(self, read_bytes: int, _: int, rows: int) -> None:
        self.raw_mb, self.rows = read_bytes / MB, rows
