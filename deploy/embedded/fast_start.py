"""A Java cache that lets Kafka start in half the time (JEP 483, 514): made once for a user.

A scratch broker runs once, and Java writes down which classes it loaded and linked. The cache
holds machine code that will run as the user, so it is used only while nobody else can write it.
Measured on two cores: Kafka ready in 1.3 s instead of 3.3 s; making it takes about 12 s.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import structlog

from deploy.embedded.jars import LOCK_FILE, exclusive
from deploy.embedded.kafka import JVM_OPTIONS, KafkaServer, java
from deploy.embedded.process import free_ports, mark_of
from deploy.embedded.users import ADMIN
from shared.errors import SecrynError

log = structlog.get_logger(__name__)

Progress = Callable[[str], None]
SAVE_TIMEOUT_S = 90.0


def ensure_fast_start(cache: Path, jars: Path, progress: Progress) -> Path | None:
    """Return the Java cache in ``cache``, making it when it is not there; None without one.

    A failure is logged and costs speed only: Kafka starts without it.
    """
    path = cache / f"kafka-{_digest()}.aot"
    if _is_ours(path):
        return path
    try:
        with exclusive(cache / "fast-start.flock", progress):
            if not _is_ours(path):
                progress("preparing Kafka for fast starts, once for this user")
                _make(path, jars)
    except (OSError, SecrynError) as error:
        log.warning("fast_start.not_made", reason=str(error))
        return None
    return path if _is_ours(path) else None


def _digest() -> str:
    found = hashlib.sha256(LOCK_FILE.read_bytes())
    found.update("\0".join(JVM_OPTIONS).encode())
    # The file `release` beside the launcher names the exact runtime.
    found.update((Path(java()).parent.parent / "release").read_bytes())
    return found.hexdigest()[:16]


def _is_ours(path: Path) -> bool:
    try:
        places = [path.stat(), path.parent.stat()]
    except FileNotFoundError:
        return False
    return all(facts.st_uid == os.geteuid() and not facts.st_mode & 0o022 for facts in places)


def _make(path: Path, jars: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="train-", dir=path.parent))
    try:
        port, controller_port = free_ports(2)
        server = KafkaServer(
            scratch / "kafka", jars, port, controller_port, scratch / "kafka.log",
            {ADMIN: secrets.token_urlsafe(18)}, secrets.token_urlsafe(18), fast_and_unsafe=True,
        )  # fmt: skip
        server.create()
        process = server.start(record_to=scratch / "cache.aot")
        mark = mark_of(process.pid)
        try:
            server.wait_ready(process)
            process.send_signal(signal.SIGTERM)
            if mark is not None and not mark.wait(SAVE_TIMEOUT_S):
                log.warning("fast_start.slow", seconds=SAVE_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
        (scratch / "cache.aot").replace(path)
    finally:
        shutil.rmtree(scratch)
