"""One Compose project of the repository's own file, and what a person does with it."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from deploy.embedded.process import free_ports
from tests.containers.engine import HERE, OURS, ROOT, Engine

UP_TIMEOUT_S = 300
COMMAND_TIMEOUT_S = 180
LONG_RUNNING = ("postgres", "kafka", "projector", "backup_service", "restore_service")
_PORTS = ("postgres", "kafka", "kafka_controller", "backup", "restore", "projector")


def documented(page: str, mark: str) -> str:
    """Return the shell lines that follow a mark in a document."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.search(rf"<!-- {mark} -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"{page}: no lines marked {mark}"
    return found[1]


@dataclass
class Project:
    """A project under a name of its own; ``folder`` holds its place.toml and its token."""

    engine: Engine
    folder: Path
    name: str = field(default_factory=lambda: f"secryn-test-{secrets.token_hex(4)}")
    # Every volume that a container of the project was seen with, those without a name as well.
    volumes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.wanted = self.folder / "place.toml"
        if self.engine.has_bridge:
            # The file's own ports: only one place runs on a machine then.
            self.ports = {"backup": 8470, "restore": 8471}
            shutil.copyfile(ROOT / "deploy/docker/place.toml", self.wanted)
        else:
            self.ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
            self.wanted.write_text(
                tomli_w.dumps(
                    {
                        "environment": "main",
                        "environment_kind": "production",
                        "hosts": {"listen": "127.0.0.1", "postgres": "postgres", "kafka": "kafka"},
                        "ports": self.ports,
                    }
                )
            )
        self.wanted.chmod(0o644)
        self.variables: Mapping[str, str] = {
            **os.environ,
            "SECRYN_VERSION": OURS.partition(":")[2],
            "SECRYN_PLACE": str(self.wanted),
            **{f"SECRYN_TEST_{name.upper()}_PORT": str(port) for name, port in self.ports.items()},
        }

    @property
    def files(self) -> list[Path]:
        own = [] if self.engine.has_bridge else [HERE / "host-network.yml"]
        return [ROOT / "docker-compose.yml", *own]

    def compose(
        self, *arguments: str, check: bool = True, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker compose ARGUMENTS`` on this project."""
        options = [word for file in self.files for word in ("-f", str(file))]
        done = subprocess.run(
            ["docker", "compose", "-p", self.name, *options, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=ROOT,
            env=self.variables,
        )
        if check:
            assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}{self.logs()}"
        return done

    def up(self) -> None:
        """Bring everything up and fetch the operator's token, as the README says it."""
        self.follow(documented("README.md", "compose"))
        assert self.token.stat().st_mode & 0o077 == 0

    def follow(self, script: str) -> str:
        """Run a document's shell lines, in this project's folder; return what they printed."""
        # The image is this checkout's and was built before: a mirror of packages is no matter of
        # the lines. Where containers share the host's network, the ports are others.
        self._note_volumes()
        script = script.replace("--build", "--no-build")
        for name, port in (("backup", "8470"), ("restore", "8471")):
            script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{self.ports[name]}")
        tools = Path(sys.executable).parent
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            capture_output=True,
            text=True,
            timeout=UP_TIMEOUT_S,
            check=False,
            cwd=self.folder,
            env={
                **self.variables,
                "COMPOSE_FILE": ":".join(map(str, self.files)),
                "COMPOSE_PROJECT_NAME": self.name,
                "PATH": f"{tools}:{os.environ['PATH']}",
            },
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def down(self) -> None:
        self._note_volumes()
        self.compose("down", "--volumes", "--remove-orphans", timeout_s=UP_TIMEOUT_S)

    @property
    def token(self) -> Path:
        return self.folder / "operator.token"

    @property
    def urls(self) -> tuple[str, str]:
        return tuple(f"http://127.0.0.1:{self.ports[name]}" for name in ("backup", "restore"))  # type: ignore[return-value]

    def secryn(
        self, *arguments: str, token: Path | None = None, check: bool = True
    ) -> dict[str, Any]:
        """Run ``secryn --url ... ARGUMENTS --json`` on this machine, with the operator's token."""
        url, restore_url = self.urls
        held = ["--token-file", str(token or self.token)]
        options = ["--url", url, "--restore-url", restore_url, *held]
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *options, *arguments, "--json"],
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        if check:
            assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}{self.logs()}"
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def inside(self, *arguments: str) -> dict[str, Any]:
        """Run ``secryn ARGUMENTS --json`` in a container of the project."""
        done = self.compose("run", "--rm", "-T", "--no-deps", "secryn", *arguments, "--json")
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def container(self, service: str) -> dict[str, Any]:
        """Return what the engine knows of a service's container."""
        found = self.compose("ps", "--all", "--quiet", service).stdout.split()
        assert len(found) == 1, f"{service}: {found}"
        document: dict[str, Any] = json.loads(self.engine.run("inspect", found[0]).stdout)[0]
        return document

    def kill(self, service: str) -> None:
        """Send SIGKILL to a container's first process, as a crash would: the engine restarts it."""
        before = self.container(service)
        os.kill(before["State"]["Pid"], signal.SIGKILL)
        self.wait_restarted(service, before["State"]["StartedAt"])

    def wait_restarted(self, service: str, started_at: str, timeout_s: float = 120) -> None:
        """Wait until a service was started anew and is healthy."""
        deadline = time.monotonic() + timeout_s
        while True:
            state = self.container(service)["State"]
            if state["StartedAt"] != started_at and state["Health"]["Status"] == "healthy":
                return
            assert time.monotonic() < deadline, f"{service}: {state}{self.logs()}"
            time.sleep(0.3)

    def wait_healthy(self, timeout_s: float = 120) -> None:
        """Wait until every service is healthy."""
        deadline = time.monotonic() + timeout_s
        for service in LONG_RUNNING:
            while self.container(service)["State"].get("Health", {}).get("Status") != "healthy":
                assert time.monotonic() < deadline, f"{service} is not healthy{self.logs()}"
                time.sleep(0.3)

    def logs(self) -> str:
        """Return the end of every container's log, for a failure."""
        with suppress(subprocess.SubprocessError, AssertionError):
            told = self.compose("logs", "--no-color", "--tail", "25", check=False)
            return "\n" + told.stdout[-12000:]
        return ""

    def _note_volumes(self) -> None:
        for container in self.compose("ps", "--all", "--quiet", check=False).stdout.split():
            found = self.engine.run("inspect", "--format", "{{json .Mounts}}", container)
            mounts = json.loads(found.stdout)
            self.volumes |= {mount["Name"] for mount in mounts if mount["Type"] == "volume"}

    def leftovers(self) -> dict[str, list[str]]:
        """Return what of this project the engine still has, by kind."""
        self._note_volumes()
        label = f"label=com.docker.compose.project={self.name}"
        listing = {
            "containers": ("ps", "--all", "--quiet", "--filter", label),
            "volumes": ("volume", "ls", "--quiet", "--filter", label),
            "networks": ("network", "ls", "--quiet", "--filter", label),
        }
        found = {kind: self.engine.run(*words).stdout.split() for kind, words in listing.items()}
        there = self.engine.run("volume", "ls", "--quiet").stdout.split()
        found["volumes"] = sorted({*found["volumes"], *self.volumes.intersection(there)})
        return {kind: names for kind, names in found.items() if names}
