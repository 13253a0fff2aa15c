"""What waits for an approval does not wait for ever, and who has nobody yet waits for nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.connect import connected
from cli.platform import platform
from deploy.embedded.folder import open_state
from restore_service import events as ev
from shared.errors import ApprovalExpired
from shared.messages.topics import AUDIT, RESTORE_EVENTS
from tests.approving import register
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Live
from tests.plugins.stack import StackUnderTest


def test_what_nobody_approves_in_time_is_over_and_a_bootstrap_credential_needs_no_approval(
    given_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> None:
    stack = given_stack()
    stack.up_with({"restore": {"restore": {"approval_ttl_s": 2}}})
    alice = register(stack, "alice")
    with connected(stack.state) as services, platform(stack.state) as parts:
        live = Live(stack, services, parts)
        backup, key = live.backup()
        policy = json.loads(stack.secryn("restore", "approval", "on").stdout)
        assert (policy["required"], policy["approvers"]) == (True, ["operator", "alice"])
        before = live.state()
        restore_id = live.start(key, backup_id=backup["backup_id"])["restore_id"]
        ended = services.restores.wait(restore_id)
        assert (ended["state"], plain(ended["error"])["code"]) == ("expired", ApprovalExpired.code)
        with pytest.raises(ApprovalExpired):
            services.restores.start_approved(restore_id, key)
        sent = alice.approve(live, restore_id=restore_id)
        (rejected,) = live.events_about(RESTORE_EVENTS, ev.REJECTED, sent.id)
        assert rejected["code"] == ApprovalExpired.code
        assert live.events_about(RESTORE_EVENTS, ev.EXPIRED, restore_id)
        assert live.state() == before
        eventually(lambda: _audited(live, restore_id), "the end is audited")
        # The same key, asked for with the credential of a place that has nobody yet.
        key_file = tmp_path / "key"
        key_file.write_text(key)
        run = (
            *("restore", "run", "--backup", backup["backup_id"], "--key-file", str(key_file)),
            *("--instance", live.instance_id, "--yes"),
            *("--token-file", str(open_state(stack.state).bootstrap)),
        )
        refused = stack.refusal(*run, "--local", "a credential is no operator")
        assert refused["code"] == "access.denied"
        restored = json.loads(stack.secryn(*run).stdout)
        assert (restored["state"], restored["requested_by"]) == ("restored", "bootstrap")
        assert restored["approved_by"] is None


def _audited(live: Live, restore_id: str) -> bool:
    entries = [json.loads(event.data) for event in live.messages(AUDIT)]
    return any(
        entry["api"]["operation"] == "restore.expire" and entry["resources"][0]["uid"] == restore_id
        for entry in entries
    )
