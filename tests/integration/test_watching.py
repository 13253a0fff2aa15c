"""What watches a stack: health, readiness, metrics, logs that can be followed and hold no secret."""

from __future__ import annotations

import json
import re
from uuid import uuid4

import httpx
import psutil
import pytest
from typer.testing import CliRunner, Result

from cli.main import build
from deploy.embedded.folder import open_state
from shared.errors import StackNotHealthy
from shared.messages.topics import AUDIT
from shared.secretfiles import read_secret_file
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live

SERVICES = ("backup", "restore", "projector")
SECRET = re.compile(rb"AGE-SECRET-KEY|Bearer |password=|BEGIN [A-Z ]*PRIVATE")


def get(live: Live, service: str, path: str, **headers: str) -> httpx.Response:
    return httpx.get(str(live.stack.status()[f"{service}_url"]) + path, headers=headers, timeout=10)


def token(live: Live) -> dict[str, str]:
    text = read_secret_file(open_state(live.stack.state).token).decode("ascii")
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize("service", SERVICES)
def test_health_and_readiness_tell_a_probe_without_a_token_and_nothing_else(
    live: Live, service: str
) -> None:
    for path in ("/healthz", "/readyz"):
        answer = get(live, service, path)
        assert answer.status_code == 200, answer.text
        assert live.instance_id not in answer.text


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_are_in_the_form_of_prometheus(live: Live, service: str) -> None:
    answer = get(live, service, "/metrics", **token(live))
    assert answer.status_code == 200
    assert "# TYPE secryn_" in answer.text


def test_a_problem_has_a_code_and_says_what_to_do(live: Live) -> None:
    answer = get(live, "backup", f"/api/v1/backups/{uuid4()}", **token(live))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "backup.not_found"
    assert problem["hint"]
    assert problem["status"] == 404


@pytest.mark.parametrize("path", ["/api/v1/backups", "/api/v1/instance/digest", "/nowhere"])
def test_without_a_token_every_path_is_the_same_closed_door(live: Live, path: str) -> None:
    answer = get(live, "backup", path)
    assert answer.status_code == 401
    assert answer.json()["code"] == "access.unauthenticated"


def test_a_correlation_id_goes_from_the_request_to_the_audit_trail(live: Live) -> None:
    correlation = str(uuid4())
    url = str(live.stack.status()["backup_url"]) + "/api/v1/backups"
    body = {"command_id": str(uuid4()), "reason": "to be followed"}
    answer = httpx.post(url, json=body, headers=token(live) | {"X-Correlation-Id": correlation})
    assert answer.status_code == 202
    live.services.backups.wait(answer.json()["backup_id"])

    def audited() -> list[Json]:
        entries = [json.loads(event.data) for event in live.messages(AUDIT)]
        return [e for e in entries if e["metadata"]["correlation_uid"] == correlation]

    eventually(lambda: len(audited()) >= 2, "asked and created are audited under one id")


def test_logs_are_json_lines_and_hold_no_secret(live: Live) -> None:
    live.backup()
    for service in SERVICES:
        content = (live.stack.state / "log" / f"{service}.log").read_bytes()
        assert not SECRET.search(content)
        lines = [json.loads(line) for line in content.splitlines() if line.strip()]
        assert lines
        assert all("event" in line and "timestamp" in line for line in lines)


def test_no_process_shows_a_secret_in_its_arguments_or_environment(live: Live) -> None:
    secrets = [
        path.read_bytes().strip()
        for folder in ("credentials", "keys")
        for path in (live.stack.state / folder).iterdir()
        if path.suffix in {".password", ".key"}
    ]
    secrets.append(token(live)["Authorization"].removeprefix("Bearer ").encode())
    assert len(secrets) > 5
    for pid in live.stack.pids().values():
        process = psutil.Process(pid)
        shown = " ".join([*process.cmdline(), *map(str, process.environ().items())]).encode()
        for secret in secrets:
            assert secret not in shown


# Recent Operations and the history, as the commands show them


def typed(live: Live, *arguments: str) -> Result:
    """Type a command in this process; return what it wrote."""
    whole = [*arguments, "--state", str(live.stack.state)]
    return CliRunner().invoke(build(whole), whole)


def typed_from_afar(live: Live, *arguments: str, restore_url: str | None = None) -> Result:
    """Type a command that reaches the place by its addresses alone."""
    found, folder = live.stack.status(), open_state(live.stack.state)
    place = ["--url", found["backup_url"], "--restore-url", restore_url or found["restore_url"]]
    whole = [*place, "--token-file", str(folder.token), *arguments]
    return CliRunner().invoke(build(whole), whole)


def test_a_place_is_reached_by_its_addresses(live: Live) -> None:
    found = json.loads(typed_from_afar(live, "status", "--json").stdout)
    assert found["healthy"]
    assert found["instance_id"] == live.instance_id
    assert [service["health"] for service in found["services"]] == ["healthy", "healthy"]
    assert found["protection"]["staleness"] is not None
    shown = json.loads(typed_from_afar(live, "backup", "list", "--json").stdout)
    assert shown["backups"] == live.services.backups.list()["backups"]
    # The two that answer are compared with what is named, before anything is asked of them.
    wrong = typed_from_afar(live, "restore", "undo", "--instance", str(uuid4()), "--yes", "--json")
    assert json.loads(wrong.stdout)["error"]["code"] == "restore.target_mismatch"
    local = typed_from_afar(live, "sample", "load", "--json")
    assert json.loads(local.stdout)["error"]["code"] == "usage.invalid"


def test_an_address_where_nobody_is_is_told(live: Live) -> None:
    result = typed_from_afar(live, "status", "--json", restore_url="http://127.0.0.1:9")
    first = json.loads(result.stdout.splitlines()[0])
    assert [service["health"] for service in first["services"]] == ["healthy", "unreachable"]
    assert result.exit_code == StackNotHealthy.exit_code


def test_recent_operations_show_the_live_run_of_both_services(live: Live) -> None:
    backup, key = live.backup()
    position = live.services.operations.list(limit=1)["position"]
    restore = live.restore(backup, key)
    followed = live.services.operations.follow(position, kind=["restore"])
    seen = [next(followed)]
    while seen[-1]["outcome"] != "succeeded":
        seen.append(next(followed))
    assert {one["subject"] for one in seen} == {restore["restore_id"]}
    assert seen[-1]["actor"] == "operator"
    assert seen[-1]["details"]["backup_id"] == backup["backup_id"]
    found = json.loads(
        live.stack.secryn("operations", "--subject", backup["backup_id"]).stdout
    )["operations"]  # fmt: skip
    assert [one["kind"] for one in found] == ["key_view", "backup"]
    assert {one["outcome"] for one in found} == {"succeeded"}
    line = typed(live, "operations", "--kind", "restore", "--limit", "1").stdout
    assert f"secryn restore show {restore['restore_id']}" in line


def test_the_history_is_filtered_written_as_csv_and_made_anew_by_command(live: Live) -> None:
    backup, _ = live.backup()
    asked = ("--in-state", "created", "--key-state", "viewed", "--proven", "--sort", "size_bytes")
    page = ("--order", "asc", "--limit", "1000")
    found = json.loads(live.stack.secryn("backup", "list", *asked, *page).stdout)
    assert backup["backup_id"] in {one["backup_id"] for one in found["backups"]}
    lines = typed(live, "backup", "list", "--csv", "--text", "A TEST").stdout.splitlines()
    assert lines[0].startswith("backup_id,state,requested_at")
    assert any(line.startswith(backup["backup_id"]) for line in lines[1:])
    before = live.services.backups.list(limit=1000)
    rebuilt = json.loads(live.stack.secryn("history", "rebuild").stdout)
    assert rebuilt["backups"] == len(before["backups"])
    assert live.services.backups.list(limit=1000) == before
    assert live.stack.refusal("backup", "list", "--sort", "colour")["code"] == "usage.invalid"


def named(live: Live) -> set[str]:
    """Return the names of what differs between the storage and the history."""
    found = json.loads(live.stack.secryn("storage", "check", check=False).stdout)
    assert found["clean"] == (not found["named"])
    return {one["name"] for one in found["named"]}


def test_the_storage_is_compared_and_its_verification_set_by_command(live: Live) -> None:
    backup, _ = live.backup()
    # What other tests damaged on this stack is found, too.
    known = named(live)
    stray = live.stack.state / "backups" / f"{uuid4()}.age"
    stray.write_bytes(b"x")
    assert live.stack.secryn("storage", "check", check=False).returncode == 6
    assert named(live) - known == {stray.name}
    assert "no backup is known of" in typed(live, "storage", "check").stdout
    stray.unlink()
    asked = ("--every-days", "7", "--mb-per-s", "5")
    plan = json.loads(live.stack.secryn("verification", "set", *asked).stdout)
    assert plan["value"] == {"every_s": 604_800, "bytes_per_s": 5_000_000}
    assert "within 7 days, at up to 5 MB/s" in typed(live, "verification", "show").stdout
    refused = live.stack.refusal("verification", "set", "--every-days", "0.001")
    assert refused["code"] == "usage.invalid"
    metrics = get(live, "backup", "/metrics", **token(live)).text
    assert "secryn_backup_damaged " in metrics
    assert 'secryn_backup_storage_findings{kind="object_without_backup"} 1.0' in metrics
    assert backup["backup_id"] not in metrics
