"""A request to see what a restore would undo: the key is opened and kept in memory alone."""

from __future__ import annotations

from typing import Any

from restore_service.checks import check_source, check_target
from restore_service.commands import PreviewRestore
from restore_service.context import RestoreContext
from restore_service.previews import REQUESTED, AcceptedPreview
from serving.requester import Requester
from shared.audit import AuditEntry


def request_preview(
    context: RestoreContext, command: PreviewRestore, requester: Requester
) -> dict[str, Any]:
    """Let a preview begin and return it as it stands; a repeated command changes nothing.

    Raises AccessError, TargetMismatch, SealedKeyRefused, KeyMalformed, BackupNotFound,
    PreviewsBusy.
    """
    requester.require("restore")
    preview_id = str(command.preview_id)
    if (known := context.previews.find(preview_id)) is not None:
        return known
    check_target(context, command)
    upload_sha256 = check_source(context, command)
    key = context.recipients.unseal(command, upload_sha256)
    document = {
        "preview_id": preview_id,
        "state": REQUESTED,
        "backup_id": None if command.backup_id is None else str(command.backup_id),
        "roll_forward": None if command.roll_forward is None else str(command.roll_forward),
        "error": None,
    }
    entry = AuditEntry(
        "restore.preview", "success", requester.name, "preview", preview_id, requester.source,
        message=command.reason,
        details={"backup_id": document["backup_id"], "trust_signer": command.trust_signer},
    )  # fmt: skip
    context.record(entry, requester.correlation_id)
    context.previews.add(AcceptedPreview(command, key, requester), document)
    return context.previews.get(preview_id)
