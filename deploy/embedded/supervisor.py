"""The supervisor: one process that brings a stack up, keeps it up and takes it down."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import structlog

from deploy.embedded.account import server_account
from deploy.embedded.configs import ensure_credentials, write_configs
from deploy.embedded.fast_start import ensure_fast_start
from deploy.embedded.folder import StateFolder, create_state, supervisor_lock
from deploy.embedded.jars import default_cache, ensure_jars
from deploy.embedded.keeper import Keeper, Part, PartReport
from deploy.embedded.keys import ensure_keys
from deploy.embedded.leftovers import find_leftovers, stop_leftovers
from deploy.embedded.own_servers import check_own_servers
from deploy.embedded.parts import KafkaFiles, build_parts
from deploy.embedded.place import Place, load_place, save_place
from deploy.embedded.ports import PortClaims
from deploy.embedded.process import mark_of
from deploy.embedded.wishes import Wishes, first_place, wished_place
from shared.errors import (
    NoSpace,
    SecrynError,
    StackNotHealthy,
    StackProcessFailed,
    error_class,
)
from shared.secretfiles import write_secret_file

log = structlog.get_logger(__name__)

Tell = Callable[[str], None]
GRACE_S = 20.0
TICK_S = 0.05
HEALTHY_WITHIN_S = 90.0
NO_SPACE_BELOW_BYTES = 8 * 1024 * 1024

Phase = Literal["starting", "running", "stopping"]


@dataclass
class Supervisor:
    """Own the state's lock, its ports and its keepers. ``run`` is the whole life."""

    path: Path
    wishes: Wishes
    tell: Tell

    def __post_init__(self) -> None:
        self.stopping = threading.Event()
        self._phase: Phase = "starting"
        self._keepers: list[Keeper] = []
        self._writing = threading.Lock()
        self._claims = PortClaims()

    def run(self, ready: Callable[[], None], trouble: Callable[[SecrynError], None]) -> int:
        """Bring the stack up, call ``ready`` once, keep it until SIGTERM or SIGINT; return 0.

        A stack that answers but is not ready is reported to ``trouble`` and stays up. Raises the
        SecrynError that kept a part from running at all; then nothing is left running.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        account = server_account()
        state = create_state(self.path, account)
        with supervisor_lock(state):
            try:
                self._start(state, account)
                fault = self._wait_until_healthy(state)
                if not self.stopping.is_set():
                    self._phase = "running"
                    self._write(state)
                    if fault is None:
                        ready()
                    else:
                        trouble(fault)
                self.stopping.wait()
            finally:
                self._stop(state)
        return 0

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        log.info("supervisor.stopping", signal=signal.Signals(number).name)
        self.stopping.set()

    def _start(self, state: StateFolder, account: Any) -> None:
        leftovers = find_leftovers(state)
        if leftovers:
            names = ", ".join(sorted({leftover.part for leftover in leftovers}))
            self.tell(f"stopping what an earlier supervisor left: {names}")
            stop_leftovers(leftovers, GRACE_S)
        place = self._settle_place(state)
        ensure_credentials(state)
        ensure_keys(state)
        write_configs(state, place)
        check_own_servers(state, place)
        kafka = self._kafka_files() if place.kafka is None else None
        self._keep(state, build_parts(state, place, account, kafka))

    def _kafka_files(self) -> KafkaFiles:
        cache = default_cache()
        jars = ensure_jars(cache, self.tell)
        return KafkaFiles(jars, ensure_fast_start(cache, jars, self.tell))

    def _settle_place(self, state: StateFolder) -> Place:
        if state.place.exists():
            place = wished_place(load_place(state.place), self.wishes)
        else:
            place = first_place(self.wishes)
            self.tell(f"making a new instance {place.instance_id} in {state.root}")
        needed = {"backup", "restore", "projector"}
        needed |= {"postgres"} if place.postgres is None else set()
        needed |= {"kafka", "kafka_controller"} if place.kafka is None else set()
        ports = self._claims.choose(place.ports, frozenset(needed), self.tell)
        place = place.model_copy(update={"ports": ports})
        save_place(state.place, place)
        return place

    def _keep(self, state: StateFolder, parts: list[Part]) -> None:
        known: dict[str, Keeper] = {}

        told: dict[str, str] = {}

        def changed(report: PartReport) -> None:
            news = told.get(report.name) != report.state and report.state != "waiting"
            if news and self._phase == "starting":
                told[report.name] = report.state
                self.tell(f"{report.name}: {report.state}")
            self._write(state)

        for part in parts:
            needs = tuple(known[name] for name in part.needs)
            known[part.name] = Keeper(part, self.stopping, needs, changed)
        self._keepers = list(known.values())
        self._write(state)
        for keeper in self._keepers:
            keeper.begin()

    def _wait_until_healthy(self, state: StateFolder) -> SecrynError | None:
        deadline = time.monotonic() + HEALTHY_WITHIN_S
        while not self.stopping.wait(TICK_S):
            reports = [keeper.report for keeper in self._keepers]
            for report in reports:
                if report.state == "failed":
                    raise _failure(state, report)
            waiting = [report for report in reports if report.state != "healthy"]
            if not waiting:
                return None
            unready = [keeper for keeper in self._keepers if keeper.needs_person()]
            if time.monotonic() > deadline or len(unready) == len(waiting):
                shown = "; ".join(f"{r.name}: {r.reason or r.state}" for r in waiting)
                return StackNotHealthy(f"not ready: {shown}")
        return None

    def _stop(self, state: StateFolder) -> None:
        self.stopping.set()
        self._phase = "stopping"
        for keeper in self._keepers:
            keeper.join()
        self._write(state)
        by_name = {keeper.part.name: keeper for keeper in self._keepers}
        services = [by_name[name] for name in ("projector", "backup", "restore") if name in by_name]
        ends = [threading.Thread(target=keeper.end_process, args=(GRACE_S,)) for keeper in services]
        for end in ends:
            end.start()
        for end in ends:
            end.join()
        for name in ("kafka", "postgres"):
            if name in by_name:
                by_name[name].end_process(GRACE_S)
        self._claims.release()
        state.supervisor.unlink(missing_ok=True)
        log.info("supervisor.stopped")

    def _write(self, state: StateFolder) -> None:
        """Write what `secryn status` reads; a full disk must not end the supervisor."""
        with self._writing:
            document = {
                "supervisor": asdict(mark_of(os.getpid()) or _no_mark()),
                "phase": self._phase,
                "parts": [_as_json(keeper) for keeper in self._keepers],
            }
            try:
                write_secret_file(state.supervisor, json.dumps(document).encode(), exist_ok=True)
            except OSError as error:
                log.error("supervisor.status_not_written", reason=str(error))


def _no_mark() -> Any:
    raise StackProcessFailed("the supervisor does not find itself among the processes")


def _as_json(keeper: Keeper) -> dict[str, Any]:
    report = keeper.report
    return {
        "name": report.name,
        "state": report.state,
        "pid": report.mark.pid if report.mark else None,
        "started": report.mark.started if report.mark else None,
        "restarts": report.restarts,
        "code": report.code,
        "reason": report.reason,
        "endpoint": keeper.part.endpoint,
        "log_file": str(keeper.part.log_file),
    }


def _failure(state: StateFolder, report: PartReport) -> SecrynError:
    free = shutil.disk_usage(state.root).free
    if free < NO_SPACE_BELOW_BYTES:
        return NoSpace(f"the disk of {state.root} is full, and {report.name} does not run")
    message = report.reason or f"{report.name} does not run"
    return error_class(report.code or StackProcessFailed.code)(message)
