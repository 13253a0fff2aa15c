"""The client of restore_service."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from shared.archive.age import parse_recipient, seal
from shared.client.http import Json, Progress, ServiceConnection, new_command_id
from shared.errors import NothingToApprove

ENDED = frozenset({"restored", "aborted", "failed", "rejected", "cancelled", "expired"})
AWAITING_APPROVAL = "awaiting_approval"
RECEIPT_KIND = "secryn-receipt"
UPLOAD_CHUNK_BYTES = 1 << 20


def new_receipt_secret() -> str:
    """Return the secret of a receipt, to be given to ``start`` or ``undo``."""
    return secrets.token_urlsafe(32)


def receipt_of(restore_id: str, secret: str) -> str:
    """Return the token that watches and undoes the restore which was started with ``secret``."""
    return f"{RECEIPT_KIND}.{restore_id}.{secret}"


def secret_digest(secret: str | None) -> str | None:
    """Return what the service learns of a secret."""
    return None if secret is None else hashlib.sha256(secret.encode("ascii")).hexdigest()


class RestoreClient:
    """Start, watch and cancel restores."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.connection = connection

    def upload(self, file: Path) -> Json:
        """Stream an archive to the service; return ``upload_id``, ``sha256``, ``size_bytes``."""
        upload_id = new_command_id()
        size_bytes = file.stat().st_size

        def chunks() -> Iterator[bytes]:
            with file.open("rb") as source:
                while chunk := source.read(UPLOAD_CHUNK_BYTES):
                    yield chunk

        return self.connection.upload(f"/api/v1/uploads/{upload_id}", chunks(), size_bytes)

    def start(
        self,
        *,
        target_instance_id: str,
        key_file_text: str,
        reason: str,
        backup_id: str | None = None,
        upload: Json | None = None,
        source_instance_id: str | None = None,
        trust_signer: str | None = None,
        environment: str | None = None,
        roll_forward: str | int | None = None,
        outside_window: str | None = None,
        cancel_running_backup: bool = False,
        receipt_secret: str | None = None,
        break_glass: str | None = None,
    ) -> Json:
        """Ask for the whole instance to be replaced; return ``restore_id`` and ``state``.

        With the state ``awaiting_approval`` it waits for another person, and then for
        ``start_approved``.

        The key travels sealed to the service's present recipient, bound to this one command,
        this archive and this target.
        """
        command_id = new_command_id()
        archive: Json = {"backup_id": backup_id} if upload is None else {"sha256": upload["sha256"]}
        sealed_body = {
            "command_id": command_id,
            "target_instance_id": target_instance_id,
            "key": key_file_text,
        } | archive
        command: Json = {
            "command_id": command_id,
            "target_instance_id": target_instance_id,
            "sealed_key": self._sealed(sealed_body),
            "reason": reason,
        }
        optional = {
            "backup_id": backup_id,
            "upload_id": None if upload is None else upload["upload_id"],
            "source_instance_id": source_instance_id,
            "trust_signer": trust_signer,
            "environment": environment,
            "roll_forward": roll_forward,
            "outside_window": outside_window,
            "receipt_sha256": secret_digest(receipt_secret),
            "running_backup": "cancel" if cancel_running_backup else None,
            "break_glass": break_glass,
        }
        command |= {name: value for name, value in optional.items() if value is not None}
        return self.connection.call("POST", "/api/v1/restores", command)

    def _sealed(self, body: Json) -> str:
        recipient = self.connection.call("GET", "/api/v1/recipient")["recipient"]
        return seal(json.dumps(body).encode("utf-8"), [parse_recipient(recipient)]).hex()

    def approve(self, restore_id: str, command_id: str | None = None) -> Json:
        """Approve a restore that another person asked for. Raises OwnRequest, ApprovalExpired."""
        body: Json = {"command_id": command_id or new_command_id()}
        return self.connection.call("POST", f"/api/v1/restores/{restore_id}/approve", body)

    def start_approved(
        self,
        restore_id: str,
        key_file_text: str,
        *,
        receipt_secret: str | None = None,
        command_id: str | None = None,
    ) -> Json:
        """Begin a restore that was approved; the key is sealed for the command that was.

        Raises ApprovalMissing, ApprovalExpired, AnotherKey.
        """
        restore = self.get(restore_id)
        asked = restore.get("asked")
        if asked is None:
            raise NothingToApprove(f"the restore {restore_id} waits for no approval")
        named = {
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
        return self.connection.call("POST", f"/api/v1/restores/{restore_id}/start", body)

    def approval_policy(self) -> Json:
        """Return whether restores need approval, the change that waits, and who may approve."""
        return self.connection.call("GET", "/api/v1/approval-policy")

    def require_approval(self, required: bool, reason: str, command_id: str | None = None) -> Json:
        """Switch the policy on, or ask for it to be switched off; return it as it stands then."""
        body: Json = {
            "command_id": command_id or new_command_id(),
            "required": required,
            "reason": reason,
        }
        return self.connection.call("POST", "/api/v1/approval-policy", body)

    def approve_change(self, change_id: str, command_id: str | None = None) -> Json:
        """Approve the change of the policy that another person asked for."""
        body: Json = {"command_id": command_id or new_command_id()}
        path = f"/api/v1/approval-policy/changes/{change_id}/approve"
        return self.connection.call("POST", path, body)

    def undo(
        self,
        *,
        target_instance_id: str,
        reason: str,
        restore_id: str | None = None,
        environment: str | None = None,
        receipt_secret: str | None = None,
    ) -> Json:
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
        return self.connection.call("POST", "/api/v1/undos", command)

    def with_receipt(self, receipt: str) -> RestoreClient:
        """Return a client that can watch and undo one restore, whoever else may not any more."""
        return RestoreClient(ServiceConnection(self.connection.base_url, receipt))

    def wait(self, restore_id: str, progress: Progress | None = None) -> Json:
        """Return the restore when it ended, whichever way."""
        return self.connection.watch(
            f"/api/v1/restores/{restore_id}", lambda found: found["state"] in ENDED, progress
        )

    def space(self) -> Json:
        """Return what the present state takes, which is kept to undo, and what is free."""
        return self.connection.call("GET", "/api/v1/space")

    def get(self, restore_id: str) -> Json:
        """Return one restore. Raises RestoreNotFound."""
        return self.connection.call("GET", f"/api/v1/restores/{restore_id}")

    def list(self) -> Json:
        """Return all restores, the newest first."""
        return self.connection.call("GET", "/api/v1/restores")

    def cancel(self, restore_id: str) -> Json:
        """Ask for a restore to be given up; possible until the cut-over begins."""
        return self.connection.call("POST", f"/api/v1/restores/{restore_id}/cancel")
