"""The client of backup_service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypedDict

from shared.api.backups import (
    Adopted,
    Backup,
    BackupPage,
    HistoryRebuild,
    RebuiltHistory,
    ReceiptEntry,
    ReceiptPage,
    SealedKey,
    SignedReceipt,
    StorageReport,
    Verified,
)
from shared.api.instance import (
    AdoptedLog,
    Instance,
    InstanceDigest,
    SkippedEvent,
    StoreStatus,
)
from shared.api.schedule import Protection
from shared.client.http import (
    POLL_FIRST_S,
    POLL_LONGEST_S,
    Json,
    Progress,
    ServiceConnection,
    new_command_id,
)
from shared.client.keys import KeyRequest
from shared.client.transfer import download_file
from shared.errors import ConflictError, UnavailableError

ENDED = frozenset({"created", "failed", "cancelled", "purged"})
VIEW_PATIENCE_S = 60.0
# A call that reads a whole object answers when it has.
READ_WHOLE_TIMEOUT_S = 6 * 3600.0
VIEW_LONGEST_PAUSE_S = 1.0


# What a query of the history takes; several of a kind in a list.
Asked = str | int | bool | Sequence[str] | None


class Downloaded(TypedDict):
    """What a download wrote."""

    backup_id: str
    size_bytes: int
    sha256: str


class BackupClient:
    """Make, list, fetch and open backups."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.connection = connection

    def create(
        self,
        reason: str,
        *,
        recipients: Sequence[str] = (),
        at_position: bool = False,
        wait_for_restore: bool = False,
        command_id: str | None = None,
    ) -> Backup:
        """Ask for a backup of the whole instance; return its ``backup_id`` and ``state``."""
        body: Json = {
            "command_id": command_id or new_command_id(),
            "reason": reason,
            "recipients": list(recipients),
            "at_position": at_position,
            "wait_for_restore": wait_for_restore,
        }
        return self.connection.ask(Backup, "POST", "/api/v1/backups", body)

    def wait(self, backup_id: str, progress: Progress | None = None) -> Backup:
        """Return the backup when it is created, failed or cancelled."""
        return self.connection.watch(
            Backup, f"/api/v1/backups/{backup_id}", lambda found: found["state"] in ENDED, progress
        )

    def get(self, backup_id: str) -> Backup:
        """Return one backup. Raises BackupNotFound."""
        return self.connection.ask(Backup, "GET", f"/api/v1/backups/{backup_id}")

    def list(self, **asked: Asked) -> BackupPage:
        """Return a page of the history, and the ``next_cursor``; the newest backup first.

        ``asked`` are the filters, ``sort``, ``order``, ``limit`` and ``cursor`` of the service.
        """
        return self.connection.ask(BackupPage, "GET", "/api/v1/backups", **_given(asked))

    def write_csv(self, sink: Callable[[bytes], object], **asked: Asked) -> None:
        """Stream the whole history, as filtered and sorted, into ``sink`` as CSV."""
        self.connection.download("/api/v1/backups.csv", sink, **_given(asked))

    def rebuild_history(self, progress: Progress) -> RebuiltHistory:
        """Have the history made anew from the events; return what it holds then.

        Raises ConflictError when that is under way already.
        """
        path = "/api/v1/history/rebuild"
        with ThreadPoolExecutor(1) as calling:
            answer = calling.submit(
                lambda: self.connection.ask(
                    RebuiltHistory, "POST", path, {}, timeout_s=READ_WHOLE_TIMEOUT_S
                )
            )
            while not answer.done():
                wait([answer], POLL_LONGEST_S)
                progress(self.connection.ask(HistoryRebuild, "GET", path))
            return answer.result()

    def cancel(self, backup_id: str) -> Backup:
        """Ask for a running backup to be given up."""
        return self.connection.ask(Backup, "POST", f"/api/v1/backups/{backup_id}/cancel")

    def verify(self, backup_id: str) -> Verified:
        """Have the stored object read back and compared, without the key."""
        path = f"/api/v1/backups/{backup_id}/verify"
        return self.connection.ask(Verified, "POST", path, timeout_s=READ_WHOLE_TIMEOUT_S)

    def check_storage(self) -> StorageReport:
        """Have the storage compared with the history; return what was found, by kind and by name."""
        path = "/api/v1/storage/check"
        return self.connection.ask(StorageReport, "POST", path, {}, timeout_s=READ_WHOLE_TIMEOUT_S)

    def receipts(self) -> Iterator[ReceiptEntry]:
        """Yield every backup that has a receipt in the storage: its id, time, and if it is known."""
        after = ""
        while True:
            page = self.connection.ask(ReceiptPage, "GET", "/api/v1/receipts", after=after)
            yield from page["receipts"]
            if page["next_after"] is None:
                return
            after = page["next_after"]

    def adopt(self, backup_id: str, *, trust_signer: str | None = None) -> Adopted:
        """Take a backup into the history from its receipt; return the ``outcome``.

        That is ``adopted``, ``known`` (it was there, and is left as it is) or ``refused`` with
        a code: then nothing was changed.
        """
        body: Json = {"trust_signer": trust_signer}
        path = f"/api/v1/backups/{backup_id}/adopt"
        return self.connection.ask(Adopted, "POST", path, body, timeout_s=READ_WHOLE_TIMEOUT_S)

    def hold(
        self, backup_id: str, reason: str, *, holder: str | None = None, until: str | None = None
    ) -> Backup:
        """Keep a backup from being purged, until a time (RFC 3339) or until it is released."""
        body: Json = {
            "command_id": new_command_id(),
            "reason": reason,
            "holder": holder,
            "until": until,
        }
        return self.connection.ask(Backup, "POST", f"/api/v1/backups/{backup_id}/hold", body)

    def release(self, backup_id: str, reason: str, *, holder: str | None = None) -> Backup:
        """Give one holder's hold back. Raises HoldNotFound."""
        body: Json = {"command_id": new_command_id(), "reason": reason, "holder": holder}
        return self.connection.ask(Backup, "POST", f"/api/v1/backups/{backup_id}/release", body)

    def delete(self, backup_id: str, reason: str, *, confirm: str) -> Backup:
        """Delete a backup for good; ``confirm`` is its id, typed once more.

        Where the storage refuses, the backup is as it was and ``purge`` says why. Raises
        NotConfirmed, BackupHeld, BackupInUse, BackupNeeded, NewestBackup, BackupPurging.
        """
        body: Json = {"command_id": new_command_id(), "reason": reason, "confirm": confirm}
        return self.connection.ask(Backup, "POST", f"/api/v1/backups/{backup_id}/delete", body)

    def view_key(self, backup_id: str, request: KeyRequest | None = None) -> str:
        """Take the one-time key and return the text of its key file.

        The service seals it to an identity that lives in this call alone, or in ``request``; a
        dropped answer is asked for again by the same request, which gives the same key.

        Raises KeyAlreadyViewed, KeyExpired, KeyNotReady.
        """
        asked = request or KeyRequest.new(backup_id)
        return asked.open(self._until_answered(backup_id, asked.body()))

    def _until_answered(self, backup_id: str, body: Json) -> SealedKey:
        # An answer may be lost with the process that gave it: giving up before that is back would
        # lose a key that only this request can have again.
        path = f"/api/v1/backups/{backup_id}/key"
        pause_s = POLL_FIRST_S
        deadline = time.monotonic() + VIEW_PATIENCE_S
        while True:
            try:
                return self.connection.ask(SealedKey, "POST", path, body)
            except UnavailableError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, VIEW_LONGEST_PAUSE_S)

    def download(self, backup_id: str, target: Path) -> Downloaded:
        """Write the encrypted object to ``target`` (0600), whole or not at all.

        It comes into ``target.part``; what is there from an earlier try is gone on with. Returns
        its ``size_bytes`` and ``sha256``. Raises ArchiveAltered when what arrived is not what the
        history says, FileExistsError when ``target`` is there, ConflictError for a backup that has
        no object or when another download writes the part.
        """
        if target.exists():
            raise FileExistsError(f"{target} exists")
        backup = self.get(backup_id)
        if backup["state"] != "created":
            raise ConflictError(f"the backup {backup_id} is {backup['state']}")
        size_bytes, sha256 = backup["size_bytes"], backup["sha256"]
        if size_bytes is None or sha256 is None:
            raise ConflictError(f"the history does not say what the backup {backup_id} is")
        path = f"/api/v1/backups/{backup_id}/content"
        download_file(self.connection, path, target, size_bytes, sha256)
        return {"backup_id": backup_id, "size_bytes": size_bytes, "sha256": sha256}

    def receipt(self, backup_id: str) -> SignedReceipt:
        """Return the signed receipt as it lies in the storage. Raises ObjectNotFound."""
        return self.connection.ask(SignedReceipt, "GET", f"/api/v1/backups/{backup_id}/receipt")

    def instance(self) -> Instance:
        """Return what is in the instance: counts, position, epoch, fence."""
        return self.connection.ask(Instance, "GET", "/api/v1/instance")

    def adopt_log(
        self,
        instance_id: str,
        reason: str,
        *,
        start: str | None = None,
        environment: str | None = None,
        command_id: str | None = None,
    ) -> AdoptedLog:
        """Let the store follow the log that is there now; return from where it does.

        ``start`` (``beginning`` or ``end``) says what becomes of what that log holds already.
        Raises LogNotLost, LogNotEmpty, RestoreInProgress, TargetMismatch.
        """
        body: Json = {
            "command_id": command_id or new_command_id(),
            "instance_id": instance_id,
            "environment": environment,
            "reason": reason,
            "from": start,
        }
        return self.connection.ask(AdoptedLog, "POST", "/api/v1/instance/adopt-log", body)

    def skip_event(
        self,
        instance_id: str,
        offset: int,
        reason: str,
        *,
        environment: str | None = None,
        command_id: str | None = None,
    ) -> SkippedEvent:
        """Pass the one event that the projector cannot decode; return what it was.

        Raises NothingToSkip, LogLost, RestoreInProgress, TargetMismatch.
        """
        body: Json = {
            "command_id": command_id or new_command_id(),
            "instance_id": instance_id,
            "environment": environment,
            "reason": reason,
            "offset": offset,
        }
        return self.connection.ask(SkippedEvent, "POST", "/api/v1/instance/skip-event", body)

    def digest(self) -> InstanceDigest:
        """Return the canonical digest of the whole state, and of each table."""
        return self.connection.ask(InstanceDigest, "GET", "/api/v1/instance/digest")

    def protection(self) -> Protection:
        """Return what a loss would cost now, if backups are stale, and what waits for a word."""
        return self.connection.ask(Protection, "GET", "/api/v1/protection")

    def status(self) -> StoreStatus:
        """Return how far the store is behind the log."""
        return self.connection.ask(StoreStatus, "GET", "/api/v1/status")


def _given(asked: Mapping[str, Asked]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}
