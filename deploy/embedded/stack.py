"""Bring a stack up, take it down, tell how it is: what `secryn up`, `down` and `status` do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.embedded.account import server_account
from deploy.embedded.addresses import address_of
from deploy.embedded.configs import SERVICE_ROLES, kafka_settings, postgres_dsn
from deploy.embedded.folder import StateFolder, create_state, open_state
from deploy.embedded.leftovers import find_leftovers, stop_leftovers
from deploy.embedded.parts import service_document, service_fault
from deploy.embedded.place import Place, load_place
from deploy.embedded.process import ProcessMark
from deploy.embedded.wishes import Wishes
from shared.errors import (
    SecrynError,
    StackAlreadyRunning,
    StackProcessFailed,
    error_class,
)
from shared.logs import configure_logs
from shared.secretfiles import read_secret_file

Tell = Callable[[str], None]
STOP_WITHIN_S = 120.0
GRACE_S = 20.0
PLATFORM_ROLE = "secryn_platform"


def up(path: Path, wishes: Wishes, tell: Tell) -> dict[str, Any]:
    """Start a supervisor for the state at ``path`` and wait until all is healthy.

    Returns the status. Raises the SecrynError that the supervisor met; StackAlreadyRunning when
    there is one already.
    """
    state = create_state(path, server_account())
    running = _supervisor(state)
    if running is not None:
        raise StackAlreadyRunning(
            f"the stack in {state.root} is running already (supervisor {running.pid})"
        )
    reader, writer = os.pipe()
    argv = [sys.executable, "-P", "-m", "deploy.embedded", "--state", str(state.root)]
    with state.log("supervisor").open("ab") as log_file:
        supervisor = subprocess.Popen(
            [*argv, "--report-fd", str(writer)],
            stdin=subprocess.PIPE,
            stdout=log_file,
            stderr=log_file,
            pass_fds=(writer,),
            start_new_session=True,
        )
    os.close(writer)
    try:
        assert supervisor.stdin is not None
        supervisor.stdin.write(json.dumps(asdict(wishes), default=str).encode())
        supervisor.stdin.close()
        _follow(reader, state, tell)
    except KeyboardInterrupt:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait()
        raise
    return status(path)


def _follow(reader: int, state: StateFolder, tell: Tell) -> None:
    with os.fdopen(reader, encoding="utf-8") as lines:
        for line in lines:
            report = json.loads(line)
            if "progress" in report:
                tell(report["progress"])
            elif "error" in report:
                body = report["error"]
                raise error_class(body["code"])(body["message"], hint=body["hint"])
            else:
                return
    raise StackProcessFailed(f"the supervisor ended; see {state.log('supervisor')}")


def down(path: Path, tell: Tell) -> dict[str, Any]:
    """Stop every process of the state at ``path``, in order; return what was stopped.

    Raises StackNotRunning when there is no state, StackProcessFailed when something stays.
    """
    state = open_state(path)
    before = [leftover.part for leftover in find_leftovers(state)]
    supervisor = _supervisor(state)
    if supervisor is not None:
        tell("stopping")
        supervisor.send(signal.SIGTERM)
        if not supervisor.wait(STOP_WITHIN_S):
            tell("the supervisor does not stop: killing it")
            supervisor.send(signal.SIGKILL)
            supervisor.wait(GRACE_S)
    leftovers = find_leftovers(state)
    if leftovers:
        tell("stopping what an earlier supervisor left")
        stop_leftovers(leftovers, GRACE_S)
    remaining = find_leftovers(state)
    if remaining:
        names = ", ".join(f"{left.part} ({left.mark.pid})" for left in remaining)
        raise StackProcessFailed(f"still running: {names}")
    state.supervisor.unlink(missing_ok=True)
    return {"state_dir": str(state.root), "stopped": sorted(set(before))}


def status(path: Path) -> dict[str, Any]:
    """Tell what runs, where it listens and how it is; asks every service anew.

    Raises StackNotRunning when there is no state at ``path``.
    """
    state = open_state(path)
    place = load_place(state.place)
    supervisor = _supervisor(state)
    recorded = _recorded(state)
    processes = [_process(part, place, state) for part in recorded.get("parts", [])]
    if supervisor is None:
        phase = "supervisor lost" if any(p["pid"] for p in processes) else "stopped"
    elif any(p["health"] == "failed" for p in processes):
        phase = "failed"
    else:
        phase = recorded.get("phase", "starting")
    addresses = {name: address_of(state, place, name) for name in SERVICE_ROLES}
    token = read_secret_file(state.token).decode("ascii")
    keys = service_document(addresses["backup"], token, "/api/v1/keys")
    # Without the log that takes its time to say nothing.
    log = all(p["health"] == "healthy" for p in processes if p["name"] == "kafka")
    strays = service_document(addresses["restore"], token, "/api/v1/stray-states")
    return {
        "state": phase,
        "healthy": phase == "running" and all(p["health"] == "healthy" for p in processes),
        "state_dir": str(state.root),
        "instance_id": str(place.instance_id),
        "environment": place.environment,
        "environment_kind": place.environment_kind,
        "postgres_dsn": postgres_dsn(state, place, PLATFORM_ROLE),
        "kafka_bootstrap": kafka_settings(state, place, "platform").bootstrap,
        "backup_url": addresses["backup"].url,
        "restore_url": addresses["restore"].url,
        "projector_url": addresses["projector"].url,
        "supervisor_pid": supervisor.pid if supervisor else None,
        "processes": processes,
        # What waits for somebody; None while backup_service does not say.
        "keys": keys,
        # Where the store stands, and if it moves; None while backup_service does not say.
        "store": service_document(addresses["backup"], token, "/api/v1/status") if log else None,
        # What restores kept that the history does not know; None while restore_service does not say.
        "stray_states": None if strays is None else strays["states"],
        "notes": _notes(place) + _notes_on_keys(keys),
    }


def _notes(place: Place) -> list[str]:
    notes = [
        "Key-encryption keys and backups are sibling folders of one disk: this is for one machine."
    ]
    if place.postgres is not None:
        notes.append("PostgreSQL is the operator's own.")
    if place.kafka is not None:
        notes.append("Kafka is the operator's own.")
    return notes


def _notes_on_keys(keys: dict[str, Any] | None) -> list[str]:
    if keys is None or not keys["count"]:
        return []
    some = "1 key waits" if keys["count"] == 1 else f"{keys['count']} keys wait"
    notes = [
        f"{some} to be viewed, the first until {keys['next_expiry']}: "
        "secryn key view --all-waiting --folder FOLDER"
    ]
    if keys["held_over"]:
        notes.append("The newest waits past its time: no newer backup can be opened by anybody.")
    if keys["unreadable"]:
        notes.append(
            f"{keys['unreadable']} of them cannot be given: their key-encryption keys are not in "
            "the folder of the keys. Is it mounted?"
        )
    return notes


def _process(part: dict[str, Any], place: Place, state: StateFolder) -> dict[str, Any]:
    mark = ProcessMark(part["pid"], part["started"]) if part["pid"] else None
    alive = mark is not None and mark.is_alive()
    health, reason = part["state"], part["reason"]
    if not alive:
        health = health if health in ("failed", "restarting", "waiting") else "stopped"
    elif part["name"] in SERVICE_ROLES:
        address = address_of(state, place, part["name"])
        fault = service_fault(address, read_secret_file(state.token).decode("ascii"))
        if fault is None:
            health, reason = "healthy", None
        elif health == "healthy":
            health, reason = "unhealthy", fault
    return {
        "name": part["name"],
        "pid": part["pid"] if alive else None,
        "health": health,
        "restarts": part["restarts"],
        "code": part["code"] if reason else None,
        "reason": reason,
        "endpoint": part["endpoint"],
        "log_file": part["log_file"],
    }


def _recorded(state: StateFolder) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(state.supervisor.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return document


def _supervisor(state: StateFolder) -> ProcessMark | None:
    found = _recorded(state).get("supervisor")
    if found is None:
        return None
    mark = ProcessMark(found["pid"], found["started"])
    return mark if mark.is_alive() else None


def run_in_foreground(path: Path, wishes: Wishes, tell: Tell) -> int:
    """Be the supervisor until SIGTERM or Ctrl-C; return the exit code. Raises what it met."""

    from deploy.embedded.supervisor import Supervisor

    configure_logs("supervisor")

    def trouble(error: SecrynError) -> None:
        tell(f"{error.message} [{error.code}]")

    supervisor = Supervisor(path.expanduser().resolve(), wishes, tell)
    return supervisor.run(lambda: tell("all parts are healthy; Ctrl-C stops them"), trouble)
