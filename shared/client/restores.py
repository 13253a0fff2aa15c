"""The client of restore_service."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from shared.api.restores import (
    ApprovalPolicy,
    ListedVoidedEvent,
    Preview,
    ReappliedEvents,
    Recipient,
    Restore,
    RestorePage,
    Space,
    StrayState,
    StrayStates,
    Upload,
    VoidedPage,
)
from shared.archive.age import parse_recipient, seal
from shared.client.http import Json, Progress, ServiceConnection, new_command_id
from shared.client.transfer import upload_file
from shared.errors import NothingToApprove

ENDED = frozenset({"restored", "aborted", "failed", "rejected", "cancelled", "expired"})
PREVIEW_ENDED = frozenset({"previewed", "failed"})
AWAITING_APPROVAL = "awaiting_approval"
RECEIPT_KIND = "secryn-receipt"


def new_receipt_secret() -> str:
    """Return the secret of a receipt, to be given to ``start`` or ``undo``."""
    return secrets.token_urlsafe(32)


def receipt_of(restore_id: str, secret: str) -> str:
    """Return the token that watches and undoes the restore which was started with ``secret``."""
    return f"{RECEIPT_KIND}.{restore_id}.{secret}"


def secret_digest(secret: str | None) -> str | None:
    """Return what the service learns of a secret."""
    return None if secret is None else hashlib.sha256(secret.encode("ascii")).hexdigest()


def sealed_command(
    connection: ServiceConnection,
    *,
    target_instance_id: str,
    key_file_text: str,
    reason: str,
    backup_id: str | None,
    upload: Upload | None,
    action: str | None = None,
) -> Json:
    """Return what every command about an archive begins with.

    The key in it is sealed to the service's present recipient, for this command, this archive, this
    target, and for ``action`` where that is not a restore.
    """
    command_id = new_command_id()
    archive: Json = {"backup_id": backup_id} if upload is None else {"sha256": upload["sha256"]}
    body = {
        "command_id": command_id,
        "target_instance_id": target_instance_id,
        "key": key_file_text,
    } | archive
    if action is not None:
        body["action"] = action
    recipient = connection.ask(Recipient, "GET", "/api/v1/recipient")["recipient"]
    sealed = seal(json.dumps(body).encode("utf-8"), [parse_recipient(recipient)])
    named = {"backup_id": backup_id} if upload is None else {"upload_id": upload["upload_id"]}
    return {
        "command_id": command_id,
        "target_instance_id": target_instance_id,
        "sealed_key": sealed.hex(),
        "reason": reason,
    } | named


class RestoreClient:
    """Start, watch and cancel restores."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.connection = connection

    def upload(self, file: Path) -> Upload:
        """Stream an archive to the service; return ``upload_id``, ``sha256``, ``size_bytes``.

        The same file again goes on where an earlier try broke off.
        """
        return upload_file(self.connection, file)

    def start(
        self,
        *,
        target_instance_id: str,
        key_file_text: str,
        reason: str,
        backup_id: str | None = None,
        upload: Upload | None = None,
        source_instance_id: str | None = None,
        trust_signer: str | None = None,
        environment: str | None = None,
        roll_forward: str | int | None = None,
        outside_window: str | None = None,
        cancel_running_backup: bool = False,
        receipt_secret: str | None = None,
        revoke_returning: bool = False,
        break_glass: str | None = None,
    ) -> Restore:
        """Ask for the whole instance to be replaced; return ``restore_id`` and ``state``.

        With the state ``awaiting_approval`` it waits for another person, and then for
        ``start_approved``.
        """
        command = sealed_command(
            self.connection,
            target_instance_id=target_instance_id,
            key_file_text=key_file_text,
            reason=reason,
            backup_id=backup_id,
            upload=upload,
        )
        optional = {
            "source_instance_id": source_instance_id,
            "trust_signer": trust_signer,
            "environment": environment,
            "roll_forward": roll_forward,
            "outside_window": outside_window,
            "receipt_sha256": secret_digest(receipt_secret),
            "running_backup": "cancel" if cancel_running_backup else None,
            "revoke_returning": revoke_returning or None,
            "break_glass": break_glass,
        }
        command |= {name: value for name, value in optional.items() if value is not None}
        return self.connection.ask(Restore, "POST", "/api/v1/restores", command)

    def preview(
        self,
        *,
        target_instance_id: str,
        key_file_text: str,
        reason: str = "a preview",
        backup_id: str | None = None,
        upload: Upload | None = None,
        **optional: str | int | None,
    ) -> Preview:
        """Ask what a restore would undo; return ``preview_id`` and ``state``.

        ``optional`` is what ``start`` would be given, and ``newest``. Nothing is changed.
        """
        command = sealed_command(
            self.connection,
            target_instance_id=target_instance_id,
            key_file_text=key_file_text,
            reason=reason,
            backup_id=backup_id,
            upload=upload,
            action="preview",
        )
        command |= {name: value for name, value in optional.items() if value is not None}
        return self.connection.ask(Preview, "POST", "/api/v1/previews", command)

    def wait_preview(self, preview_id: str, progress: Progress | None = None) -> Preview:
        """Return the preview when it ended, whichever way."""
        return self.connection.watch(
            Preview,
            f"/api/v1/previews/{preview_id}",
            lambda found: found["state"] in PREVIEW_ENDED,
            progress,
        )

    def _sealed(self, body: Json) -> str:
        recipient = self.connection.ask(Recipient, "GET", "/api/v1/recipient")["recipient"]
        return seal(json.dumps(body).encode("utf-8"), [parse_recipient(recipient)]).hex()

    def approve(self, restore_id: str, command_id: str | None = None) -> Restore:
        """Approve a restore that another person asked for. Raises OwnRequest, ApprovalExpired."""
        body: Json = {"command_id": command_id or new_command_id()}
        return self.connection.ask(Restore, "POST", f"/api/v1/restores/{restore_id}/approve", body)

    def start_approved(
        self,
        restore_id: str,
        key_file_text: str,
        *,
        receipt_secret: str | None = None,
        command_id: str | None = None,
    ) -> Restore:
        """Begin a restore that was approved; the key is sealed for the command that was.

        Raises ApprovalMissing, ApprovalExpired, AnotherKey.
        """
        restore = self.get(restore_id)
        asked = restore.get("asked")
        if asked is None:
            raise NothingToApprove(f"the restore {restore_id} waits for no approval")
        named: Json = {
            name: asked[name]
            for name in ("command_id", "target_instance_id", "backup_id")
            if name in asked
        }
        if restore["upload_sha256"] is not None:
            named["sha256"] = restore["upload_sha256"]
        body: Json = {
            "command_id": command_id or new_command_id(),
            "sealed_key": self._sealed(named | {"action": "start", "key": key_file_text}),
            "receipt_sha256": secret_digest(receipt_secret),
        }
        return self.connection.ask(Restore, "POST", f"/api/v1/restores/{restore_id}/start", body)

    def approval_policy(self) -> ApprovalPolicy:
        """Return whether restores need approval, the change that waits, and who may approve."""
        return self.connection.ask(ApprovalPolicy, "GET", "/api/v1/approval-policy")

    def require_approval(
        self, required: bool, reason: str, command_id: str | None = None
    ) -> ApprovalPolicy:
        """Switch the policy on, or ask for it to be switched off; return it as it stands then."""
        body: Json = {
            "command_id": command_id or new_command_id(),
            "required": required,
            "reason": reason,
        }
        return self.connection.ask(ApprovalPolicy, "POST", "/api/v1/approval-policy", body)

    def approve_change(self, change_id: str, command_id: str | None = None) -> ApprovalPolicy:
        """Approve the change of the policy that another person asked for."""
        body: Json = {"command_id": command_id or new_command_id()}
        path = f"/api/v1/approval-policy/changes/{change_id}/approve"
        return self.connection.ask(ApprovalPolicy, "POST", path, body)

    def undo(
        self,
        *,
        target_instance_id: str,
        reason: str,
        restore_id: str | None = None,
        environment: str | None = None,
        receipt_secret: str | None = None,
    ) -> Restore:
        """Ask for what the last restore replaced to be put back; return ``restore_id``, ``state``."""
        command: Json = {
            "command_id": new_command_id(),
            "target_instance_id": target_instance_id,
            "reason": reason,
        }
        optional = {
            "restore_id": restore_id,
            "environment": environment,
            "receipt_sha256": secret_digest(receipt_secret),
        }
        command |= {name: value for name, value in optional.items() if value is not None}
        return self.connection.ask(Restore, "POST", "/api/v1/undos", command)

    def with_receipt(self, receipt: str) -> RestoreClient:
        """Return a client that can watch and undo one restore, whoever else may not any more."""
        return RestoreClient(self.connection.with_token(receipt))

    def voided(self, restore_id: str) -> Iterator[ListedVoidedEvent]:
        """Yield every event that a restore made void, in order; a page is held at a time."""
        after: Json = {}
        while True:
            path = f"/api/v1/restores/{restore_id}/voided"
            page = self.connection.ask(VoidedPage, "GET", path, **after)
            yield from page["events"]
            if page["next_after"] is None:
                return
            after = {"after": page["next_after"]}

    def reapply(
        self,
        restore_id: str,
        offsets: Sequence[int],
        *,
        target_instance_id: str,
        reason: str,
        environment: str | None = None,
    ) -> ReappliedEvents:
        """Append voided events again; return what became of each.

        One that was appended before is not appended a second time. Raises NotVoided, KeyringError,
        RestoreInProgress, FenceOpen, TargetMismatch.
        """
        command: Json = {
            "target_instance_id": target_instance_id,
            "offsets": list(offsets),
            "reason": reason,
            "environment": environment,
        }
        return self.connection.ask(
            ReappliedEvents, "POST", f"/api/v1/restores/{restore_id}/reapply", command
        )

    def wait(self, restore_id: str, progress: Progress | None = None) -> Restore:
        """Return the restore when it ended, whichever way."""
        return self.connection.watch(
            Restore,
            f"/api/v1/restores/{restore_id}",
            lambda found: found["state"] in ENDED,
            progress,
        )

    def strays(self) -> StrayStates:
        """Return what is kept of restores that the history does not know."""
        return self.connection.ask(StrayStates, "GET", "/api/v1/stray-states")

    def drop_stray(
        self,
        restore_id: str,
        *,
        target_instance_id: str,
        reason: str,
        environment: str | None = None,
    ) -> StrayState:
        """Drop one of them for good. Raises StrayNotFound, StrayNotDropped, TargetMismatch."""
        command: Json = {
            "target_instance_id": target_instance_id,
            "reason": reason,
            "environment": environment,
        }
        return self.connection.ask(
            StrayState, "POST", f"/api/v1/stray-states/{restore_id}/drop", command
        )

    def space(self) -> Space:
        """Return what the present state takes, which is kept to undo, and what is free."""
        return self.connection.ask(Space, "GET", "/api/v1/space")

    def get(self, restore_id: str) -> Restore:
        """Return one restore. Raises RestoreNotFound."""
        return self.connection.ask(Restore, "GET", f"/api/v1/restores/{restore_id}")

    def list(self) -> RestorePage:
        """Return all restores, the newest first."""
        return self.connection.ask(RestorePage, "GET", "/api/v1/restores")

    def cancel(self, restore_id: str) -> Restore:
        """Ask for a restore to be given up; possible until the cut-over begins."""
        return self.connection.ask(Restore, "POST", f"/api/v1/restores/{restore_id}/cancel")
