"""A restore takes two persons where the policy says so; who breaks the glass is heard."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from deploy.embedded.folder import open_state
from restore_service import events as ev
from restore_service.commands import (
    APPROVE_RESTORE,
    CHANGE_APPROVAL,
    RESTORE_INSTANCE,
    START_RESTORE,
)
from shared.archive.keyfile import KeyFile
from shared.errors import (
    AnotherKey,
    ApprovalMissing,
    NothingToApprove,
    OwnRequest,
    SealedKeyRefused,
    SecrynError,
)
from shared.instance.events import Restored, RestoreStarted
from shared.messages.topics import AUDIT, INSTANCE_EVENTS, RESTORE_COMMANDS, RESTORE_EVENTS
from shared.secretfiles import read_secret_file
from tests.accessing import PASSWORD
from tests.approving import Person, register, restart, restore_command, start_command
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live
from tests.visiting import add_person


@pytest.fixture(scope="module")
def alice(live: Live) -> Person:
    return register(live.stack, "alice")


@pytest.fixture
def required(live: Live, alice: Person) -> Iterator[None]:
    """The policy is on for a test."""
    live.services.restores.require_approval(True, "a test")
    yield
    policy = live.services.restores.require_approval(False, "a test")
    if policy["pending"] is not None:
        alice.approve(live, change_id=policy["pending"]["change_id"])
        eventually(lambda: not is_required(live), "the policy is off")


pytestmark = pytest.mark.usefixtures("required")


def is_required(live: Live) -> bool:
    return bool(live.services.restores.approval_policy()["required"])


def asked(live: Live) -> tuple[Json, Json, str]:
    """Ask for a restore of a new backup; return it, the backup and the key."""
    backup, key = live.backup()
    live.add_project(f"unwanted {uuid4()}")
    restore = live.start(key, backup_id=backup["backup_id"])
    assert restore["state"] == "awaiting_approval"
    return restore, backup, key


def approved(live: Live, alice: Person) -> tuple[Json, Json, str]:
    """Ask as the operator, and let another person approve."""
    restore, backup, key = asked(live)
    alice.approve(live, restore_id=restore["restore_id"])
    return wait_for(live, restore, "approved"), backup, key


def wait_for(live: Live, restore: Json, state: str) -> Json:
    def look() -> Json | None:
        found = live.services.restores.get(restore["restore_id"])
        return plain(found) if found["state"] == state else None

    found: Json = eventually(look, f"the restore is {state}")
    return found


def refusal(live: Live, command_id: object) -> str:
    """Return the code that answers a command over Kafka."""
    return str(live.events_about(RESTORE_EVENTS, ev.REJECTED, command_id)[0]["code"])


def test_who_asked_cannot_approve_and_nothing_begins_without_it(live: Live, alice: Person) -> None:
    before = live.state()
    restore, _, key = asked(live)
    unwanted = live.state()
    restore_id = restore["restore_id"]
    # Other modules of this stack have made users who may approve as well.
    assert "alice" in restore["approvers"]
    assert "operator" not in restore["approvers"]
    with pytest.raises(OwnRequest):
        live.services.restores.approve(restore_id)
    # The operator's own key on Kafka does not make another person of them.
    command = {"command_id": str(uuid4()), "restore_id": restore_id}
    sent = live.command(RESTORE_COMMANDS, APPROVE_RESTORE, command)
    assert refusal(live, sent.id) == OwnRequest.code
    with pytest.raises(ApprovalMissing):
        live.services.restores.start_approved(restore_id, key)
    assert wait_for(live, restore, "awaiting_approval")["approved_by"] is None
    assert live.state() == unwanted != before
    assert live.services.restores.cancel(restore_id)["state"] == "cancelled"
    sent = alice.approve(live, restore_id=restore_id)
    assert refusal(live, sent.id) == NothingToApprove.code


def test_another_person_may_and_both_names_are_on_every_event_from_then_on(
    live: Live, alice: Person
) -> None:
    restore, backup, key = approved(live, alice)
    restore_id = restore["restore_id"]
    both = {"requested_by": "operator", "approved_by": "issuer:alice"}
    assert {name: restore[name] for name in both} == both
    with pytest.raises(NothingToApprove):
        live.services.restores.approve(restore_id)
    another = live.backup()[1]
    with pytest.raises(AnotherKey):
        live.services.restores.start_approved(restore_id, another)
    command_id = str(uuid4())
    live.services.restores.start_approved(restore_id, key, command_id=command_id)
    ended = plain(live.services.restores.wait(restore_id))
    assert (ended["state"], live.digest()) == ("restored", backup["digest"])
    assert {name: ended[name] for name in both} == both
    # The same start once more is the same start.
    again = live.services.restores.start_approved(restore_id, key, command_id=command_id)
    assert again["ended_at"] == ended["ended_at"]
    with pytest.raises(NothingToApprove):
        live.services.restores.start_approved(restore_id, key)

    live.events_about(RESTORE_EVENTS, ev.COMPLETED, restore_id)
    told = [
        (event.type, json.loads(event.data))
        for event in live.messages(RESTORE_EVENTS)
        if restore_id in event.data.decode()
    ]
    kinds = [kind for kind, _ in told]
    assert kinds[:2] == [ev.REQUESTED, ev.APPROVED]
    assert kinds[-1] == ev.COMPLETED
    assert told[0][1]["requested_by"] == "operator"
    for kind in (RestoreStarted.TYPE, Restored.TYPE):
        (on_the_log,) = live.events_about(INSTANCE_EVENTS, kind, restore_id)
        assert {name: on_the_log[name] for name in both} == both
    for kind, body in told[1:]:
        assert {name: body[name] for name in both} == both, kind
    audited = [json.loads(event.data) for event in live.messages(AUDIT)]
    details = {
        entry["api"]["operation"]: entry["unmapped"]["details"]
        for entry in audited
        if entry["resources"][0]["uid"] == restore_id
    }
    assert set(details) == {"restore.run", "restore.approve", "restore.start", "restore.completed"}
    assert all(details[name] == both for name in details if name != "restore.run")


def test_a_user_of_the_instance_is_another_person_too(live: Live) -> None:
    name = f"approver {uuid4().hex[:8]}"
    add_person(live, name, "backup.approve", "backup.read")
    restore, backup, key = asked(live)
    restore_id = restore["restore_id"]
    assert f"user:{name}" in restore["approvers"]
    url = live.services.restores.connection.base_url
    with httpx.Client(base_url=url, trust_env=False, headers={"Origin": url}) as browser:
        form = {"name": name, "password": PASSWORD, "next": "/admin/restore/"}
        assert browser.post("/admin/restore/sign-in", data=form).status_code == 303
        csrf = browser.get("/api/v1/session").json()["csrf_token"]
        page = f"/admin/restore/restores/{restore_id}"
        assert browser.post(f"{page}/approve", data={"csrf_token": csrf}).status_code == 303
        assert f"Approved by user:{name}" in browser.get(page).text
    live.services.restores.start_approved(restore_id, key)
    ended = live.services.restores.wait(restore_id)
    assert (ended["state"], ended["approved_by"]) == ("restored", f"user:{name}")
    assert live.digest() == backup["digest"]


def test_what_another_asks_for_over_kafka_the_operator_approves(live: Live, alice: Person) -> None:
    backup, key = live.backup()
    live.add_project(f"unwanted {uuid4()}")
    command = restore_command(live, backup, key)
    alice.sends(live, RESTORE_INSTANCE, command)
    (requested,) = live.events_about(RESTORE_EVENTS, ev.REQUESTED, command["command_id"])
    assert (requested["requested_by"], requested["approvers"][0]) == ("issuer:alice", "operator")
    assert "alice" not in requested["approvers"]
    restore_id = requested["restore_id"]
    sent = alice.approve(live, restore_id=restore_id)
    assert refusal(live, sent.id) == OwnRequest.code
    restore = json.loads(live.stack.secryn("restore", "approve", restore_id).stdout)
    assert (restore["state"], restore["approved_by"]) == ("approved", "operator")
    # What was sealed to ask lies on the topic for others to read: it starts nothing.
    old = {name: command[name] for name in ("sealed_key",)} | {"restore_id": restore_id}
    sent = alice.sends(live, START_RESTORE, old | {"command_id": str(uuid4())})
    assert refusal(live, sent.id) == SealedKeyRefused.code
    start = start_command(live, restore, key)
    for _ in range(3):
        alice.sends(live, START_RESTORE, start)
    ended = live.services.restores.wait(restore_id)
    assert (ended["state"], ended["started_by"]) == ("restored", "issuer:alice")
    assert live.digest() == backup["digest"]
    assert len(live.events_about(INSTANCE_EVENTS, Restored.TYPE, restore_id)) == 1


def test_the_command_line_says_what_is_waited_for_and_the_key_is_kept_nowhere(
    live: Live, alice: Person, tmp_path: Path
) -> None:
    backup, key = live.backup()
    key_file = tmp_path / "key"
    key_file.write_text(key)
    run = (
        *("restore", "run", "--backup", backup["backup_id"], "--key-file", str(key_file)),
        *("--instance", live.instance_id, "--yes"),
    )
    restore = json.loads(live.stack.secryn(*run).stdout)
    restore_id = restore["restore_id"]
    assert restore["state"] == "awaiting_approval"
    assert "alice" in restore["approvers"]
    assert restore["asked"]["backup_id"] == backup["backup_id"]
    start = ("restore", "start", restore_id, "--key-file", str(key_file))
    assert live.stack.refusal(*start)["code"] == ApprovalMissing.code
    alice.approve(live, restore_id=restore_id)
    wait_for(live, restore, "approved")
    secret = KeyFile.parse(key).identity.encode().encode()
    with live.admin() as conn:
        conn.execute("CHECKPOINT")
    for path in live.stack.state.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path
    with live.admin() as conn:
        rows = conn.execute("SELECT data::text FROM restore.events").fetchall()
    assert not [row for row in rows if '"sealed_key":' in row[0]]
    done = json.loads(live.stack.secryn(*start).stdout)
    assert done["state"] == "restored"
    # Whoever started it can undo it.
    receipt = ("--token-file", done["receipt_file"])
    live.stack.secryn("restore", "undo", "--instance", live.instance_id, "--yes", *receipt)


def test_it_waits_through_restarts_of_the_service_and_an_upload_with_it(
    live: Live, alice: Person, tmp_path: Path
) -> None:
    backup, key = live.backup()
    upload = live.services.restores.upload(live.archive(backup, tmp_path))
    live.add_project(f"unwanted {uuid4()}")
    restore = live.start(key, upload=upload)
    restart(live.stack)
    assert live.services.restores.get(restore["restore_id"])["state"] == "awaiting_approval"
    alice.approve(live, restore_id=restore["restore_id"])
    wait_for(live, restore, "approved")
    restart(live.stack)
    live.services.restores.start_approved(restore["restore_id"], key)
    assert live.services.restores.wait(restore["restore_id"])["state"] == "restored"
    assert live.digest() == backup["digest"]


def test_of_two_approvals_and_of_two_starts_at_once_one_counts(live: Live, alice: Person) -> None:
    command = restore_command(live, *live.backup())
    alice.sends(live, RESTORE_INSTANCE, command)
    (requested,) = live.events_about(RESTORE_EVENTS, ev.REQUESTED, command["command_id"])
    restore_id = requested["restore_id"]
    assert at_once(lambda: live.services.restores.approve(restore_id)) == [
        "done", *3 * [NothingToApprove.code],
    ]  # fmt: skip
    assert len(live.events_about(RESTORE_EVENTS, ev.APPROVED, restore_id)) == 1
    live.services.restores.cancel(restore_id)
    restore, _, key = approved(live, alice)
    restore_id = restore["restore_id"]
    outcomes = at_once(lambda: live.services.restores.start_approved(restore_id, key))
    assert outcomes == ["done", *3 * [NothingToApprove.code]]
    assert live.services.restores.wait(restore_id)["state"] == "restored"
    assert len(live.events_about(INSTANCE_EVENTS, Restored.TYPE, restore_id)) == 1


def at_once(call: Callable[[], object]) -> list[str]:
    """Make a call four times at once; return what became of each, `done` first."""
    outcomes: list[str] = []

    def run() -> None:
        try:
            call()
            outcomes.append("done")
        except SecrynError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes, key=lambda outcome: (outcome != "done", outcome))


def test_who_breaks_the_glass_waits_for_nobody_and_is_heard(live: Live, tmp_path: Path) -> None:
    waiting, backup, key = asked(live)
    key_file = tmp_path / "key"
    key_file.write_text(key)
    before = glass_broken(live)
    run = (
        *("restore", "run", "--backup", backup["backup_id"], "--key-file", str(key_file)),
        *("--instance", live.instance_id, "--yes", "--local", "nobody answers, all is lost"),
    )
    # What waits for its approval is in nobody's way.
    restore = json.loads(live.stack.secryn(*run).stdout)
    broken = {"by": "operator", "reason": "nobody answers, all is lost"}
    assert (restore["state"], restore["glass_broken"]) == ("restored", broken)
    assert restore["approved_by"] is None
    assert live.digest() == backup["digest"]
    restore_id = restore["restore_id"]
    (event,) = live.events_about(RESTORE_EVENTS, ev.GLASS_BROKEN, restore_id)
    assert event["glass_broken"] == broken
    audited = [json.loads(e.data) for e in live.messages(AUDIT)]
    (entry,) = [e for e in audited if e["api"]["operation"] == "restore.glass_broken"]
    assert (entry["resources"][0]["uid"], entry["status_detail"]) == (restore_id, broken["reason"])
    log = open_state(live.stack.state).log("restore").read_text()
    lines = [json.loads(line) for line in log.splitlines() if "glass_broken" in line]
    assert [(line["level"], line["restore_id"]) for line in lines] == [("error", restore_id)]
    assert glass_broken(live) == before + 1
    assert wait_for(live, waiting, "awaiting_approval")


def glass_broken(live: Live) -> float:
    """Return what the service's metrics count."""
    token = read_secret_file(open_state(live.stack.state).token).decode()
    url = f"{live.services.restores.connection.base_url}/metrics"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    (line,) = [
        line
        for line in answer.text.splitlines()
        if line.startswith("secryn_restore_glass_broken_total ")
    ]
    return float(line.split()[1])


def test_nobody_but_the_local_operator_breaks_the_glass(live: Live, alice: Person) -> None:
    before = live.state()
    backup, key = live.backup()
    for who in ("alice", "operator"):
        command = restore_command(live, backup, key) | {"break_glass": "I am in a hurry"}
        sent = (
            alice.sends(live, RESTORE_INSTANCE, command)
            if who == "alice"
            else live.command(RESTORE_COMMANDS, RESTORE_INSTANCE, command)
        )
        assert refusal(live, sent.id) == "access.denied"
    assert live.state() == before


def test_switching_it_off_takes_another_person(live: Live, alice: Person) -> None:
    policy = live.services.restores.require_approval(False, "it is in the way")
    change_id = plain(policy["pending"])["change_id"]
    assert (policy["required"], plain(policy["pending"])["requested_by"]) == (True, "operator")
    with pytest.raises(OwnRequest):
        live.services.restores.approve_change(change_id)
    assert live.stack.refusal("restore", "approval", "off")["code"] == "conflict"
    assert asked(live)[0]["state"] == "awaiting_approval"
    # On once more withdraws it.
    live.stack.secryn("restore", "approval", "on")
    sent = alice.approve(live, change_id=change_id)
    assert refusal(live, sent.id) == NothingToApprove.code
    assert is_required(live)
    change_id = str(uuid4())
    command = {"command_id": change_id, "required": False, "reason": "I agree with myself"}
    alice.sends(live, CHANGE_APPROVAL, command)
    live.events_about(RESTORE_EVENTS, ev.POLICY_CHANGE_REQUESTED, change_id)
    done = live.stack.secryn("restore", "approval", "approve", change_id)
    policy = json.loads(done.stdout)
    assert policy["required"] is False
    assert (policy["changed_by"], policy["approved_by"]) == ("issuer:alice", "operator")
    audited = [json.loads(event.data)["api"]["operation"] for event in live.messages(AUDIT)]
    assert {"approval.on", "approval.off_requested", "approval.off"} <= set(audited)
    backup, key = live.backup()
    assert live.restore(backup, key)["state"] == "restored"
