"""What a form asks for: the archive, and its key sealed for each command that may follow.

The key comes once, and is kept nowhere here. It is sealed at once to the service's own recipient,
for the preview, for the restore and for the rehearsal of this archive and this target; the page
carries those back. They open nothing elsewhere, nothing else here, and nothing in an hour or two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from restore_service.commands import (
    PreviewRestore,
    RehearseRestore,
    RestoreInstance,
    parse_command,
    restore_id_of,
)
from restore_service.context import RestoreContext
from restore_service.recipient.publish import publish_recipient
from restore_service.uploads import uploaded_sha256
from shared.archive.age import parse_recipient, seal
from shared.archive.keyfile import KeyFile
from shared.errors import BackupNotFound, ObjectNotFound, TargetMismatch, UsageError
from shared.settings import PlaceSettings

SEALED: Final = {"preview": "preview", "restore": None, "rehearse": "rehearse"}
_ARCHIVE: Final = ("backup_id", "upload_id", "source_instance_id", "trust_signer", "roll_forward")
NEWEST: Final = 200


@dataclass(frozen=True)
class Asked:
    """An archive and its sealed keys, as the hidden fields of a form carry them."""

    fields: Mapping[str, str]

    def document(self, action: str, instance_id: object, reason: str) -> dict[str, Any]:
        """Return the command of ``action`` as the API takes it."""
        named: dict[str, Any] = {name: self.fields[name] for name in _ARCHIVE if self.fields[name]}
        forward = named.get("roll_forward")
        if forward is not None and forward.isdigit():
            named["roll_forward"] = int(forward)
        return named | {
            "command_id": self.fields[f"{action}_id"],
            "sealed_key": self.fields[f"{action}_key"],
            "target_instance_id": str(instance_id),
            "reason": reason,
        }

    @property
    def restore_id(self) -> str:
        """Return the id of the restore that may follow. Raises UsageError."""
        try:
            return str(restore_id_of(UUID(self.fields["restore_id"])))
        except ValueError:
            raise UsageError("the form was changed on its way: begin again") from None

    def preview(self, place: PlaceSettings) -> PreviewRestore:
        """Return the command to preview this place. Raises UsageError."""
        document = self.document("preview", place.instance_id, "a preview in the browser")
        # It changes nothing: the page itself names the environment that it is of.
        more = {"newest": NEWEST, "environment": place.environment}
        return parse_command(PreviewRestore, document | more)

    def rehearse(self, place: PlaceSettings, reason: str) -> RehearseRestore:
        """Return the command to rehearse, which changes nothing either. Raises UsageError."""
        document = self.document("rehearse", place.instance_id, reason)
        return parse_command(RehearseRestore, document | {"environment": place.environment})

    def restore(
        self, instance_id: object, reason: str, chosen: Mapping[str, Any]
    ) -> RestoreInstance:
        """Return the command to restore, with what was ``chosen`` beside it. Raises UsageError."""
        document = self.document("restore", instance_id, reason)
        return parse_command(RestoreInstance, document | dict(chosen))


def asked_again(form: Mapping[str, str]) -> Asked:
    """Read what a page of ours carried."""
    sealed = [f"{action}_{part}" for action in SEALED for part in ("id", "key")]
    return Asked({name: form.get(name, "").strip() for name in (*_ARCHIVE, *sealed)})


def ask(context: RestoreContext, form: Mapping[str, str]) -> Asked:
    """Read the first form, and seal the key that came with it.

    Raises UsageError, KeyMalformed, BackupNotFound.
    """
    named = {name: form.get(name, "").strip() for name in _ARCHIVE}
    if named["backup_id"] == "other":
        named["backup_id"] = form.get("other_backup_id", "").strip()
    if named["backup_id"] == "upload":
        named["backup_id"] = ""
    else:
        named["upload_id"] = ""
    if not named["backup_id"] and not named["upload_id"]:
        raise UsageError("no backup and no file is chosen", hint="Choose one of the two.")
    key_text = form.get("key", "").replace("\r\n", "\n")
    KeyFile.parse(key_text)
    return Asked(named | _sealed(context, named, key_text))


def _sealed(context: RestoreContext, named: Mapping[str, str], key_text: str) -> dict[str, str]:
    recipient = parse_recipient(publish_recipient(context).recipient)
    body = {"target_instance_id": str(context.settings.place.instance_id), "key": key_text}
    if named["backup_id"]:
        body["backup_id"] = named["backup_id"]
    else:
        try:
            body["sha256"] = uploaded_sha256(context.uploads, named["upload_id"])
        except ObjectNotFound:
            raise BackupNotFound(
                "the uploaded file is not here", hint="Upload it again, to its end."
            ) from None
    carried: dict[str, str] = {}
    for action, sealed_for in SEALED.items():
        command_id = str(uuid4())
        document = body | {"command_id": command_id}
        if sealed_for is not None:
            document["action"] = sealed_for
        carried[f"{action}_id"] = command_id
        carried[f"{action}_key"] = seal(json.dumps(document).encode("utf-8"), [recipient]).hex()
    return carried


def sealed_start(context: RestoreContext, restore: Mapping[str, Any], key_text: str) -> str:
    """Return the key of an approved restore, sealed for its start. Raises KeyMalformed."""
    text = key_text.replace("\r\n", "\n")
    KeyFile.parse(text)
    asked = restore.get("asked") or {}
    named = {
        name: asked[name]
        for name in ("command_id", "target_instance_id", "backup_id")
        if name in asked
    }
    if restore.get("upload_sha256") is not None:
        named["sha256"] = restore["upload_sha256"]
    body = json.dumps(named | {"action": "start", "key": text}).encode("utf-8")
    return seal(body, [parse_recipient(publish_recipient(context).recipient)]).hex()


def confirmed_environment(form: Mapping[str, str], place: PlaceSettings) -> str:
    """Return the name that was typed. Raises TargetMismatch unless it is this environment's.

    A command may leave the name out where the place is not production; a person types it always.
    """
    typed = form.get("confirmation", "").strip()
    if typed != place.environment:
        raise TargetMismatch(
            f"this environment is {place.environment}: its name was not typed",
            hint="Type the name as it stands above the page.",
        )
    return typed
