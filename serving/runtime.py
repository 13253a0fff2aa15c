"""Run a service: an HTTP server, background workers, one clean end."""

from __future__ import annotations

import signal
import ssl
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog
from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter

from serving.proxies import TrustedProxies
from serving.server import BoundedConnection
from shared.collector import settle_collector
from shared.errors import StackUnsupportedServer, UnknownSetting
from shared.secretfiles import read_secret_file
from shared.settings import HttpSettings

log = structlog.get_logger(__name__)

Worker = Callable[[threading.Event], None]
# Work in hand may go on for so long after a stop; then it is given up, and ends cleanly.
GRACE_S = 12.0
GIVE_UP_TIMEOUT_S = 6.0


class ServiceRuntime:
    """Own the threads of one process, from the first to the last.

    ``stop`` asks workers to take nothing new; ``give_up`` ends what they still have in hand.
    A worker that returns early or raises ends the whole process with exit code 1: what starts
    it again starts it whole, and nothing runs on with a part missing.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stop = threading.Event()
        self.give_up = threading.Event()
        self.exit_code = 0
        self._end = threading.Event()
        self._workers: list[threading.Thread] = []
        self._last_workers: list[threading.Thread] = []
        self._closers: list[Callable[[], None]] = []

    def add_worker(self, name: str, work: Worker, *, last: bool = False, now: bool = False) -> None:
        """Start ``work(stop)`` in a thread of its own when the service runs, or ``now``.

        A ``last`` one is stopped when the others have ended: their work in hand needs it.
        """
        stop = self._end if last else self.stop

        def body() -> None:
            try:
                work(stop)
            except (UnknownSetting, StackUnsupportedServer) as error:
                log.error(
                    "service.refused", code=error.code, reason=error.message, hint=error.advice
                )
                self.exit_code = error.exit_code
            except BaseException as error:
                log.error("worker.failed", worker=name, error=type(error).__name__, exc_info=error)
                self.exit_code = 1
            else:
                if not stop.is_set():
                    log.error("worker.ended_early", worker=name)
                    self.exit_code = 1
            self.stop.set()

        workers = self._last_workers if last else self._workers
        workers.append(threading.Thread(target=body, name=name, daemon=True))
        if now:
            workers[-1].start()

    def on_close(self, close: Callable[[], None]) -> None:
        """Call ``close`` after the workers ended, the last added first."""
        self._closers.append(close)

    def run(self, app: Any, http: HttpSettings) -> int:
        """Serve until SIGTERM, SIGINT or a dead worker; return the exit code.

        Raises UnknownSetting where nothing can listen on the address.
        """
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        server = build_server(self.name, app, http)
        try:
            server.prepare()
        except OSError:
            raise UnknownSetting(
                f"http: nothing can listen on {http.host}:{http.port}: the port is taken, or the "
                "address is not this machine's",
                hint="Stop what listens there, or set another http.port or http.host.",
            ) from None
        settle_collector()
        for worker in [*self._last_workers, *self._workers]:
            if worker.ident is None:
                worker.start()
        serving = threading.Thread(target=server.serve, name="http", daemon=True)
        serving.start()
        log.info("service.started", service=self.name, host=http.host, port=server.bind_addr[1])
        # A short wait in a loop keeps the main thread open to signals.
        while not self.stop.wait(0.5):
            pass
        server.stop()
        self._end_workers()
        log.info("service.stopped", service=self.name, exit_code=self.exit_code)
        return self.exit_code

    def _end_workers(self) -> None:
        self._join(self._workers, GRACE_S)
        self.give_up.set()
        self._join(self._workers, GIVE_UP_TIMEOUT_S)
        self._end.set()
        self._join(self._last_workers, GIVE_UP_TIMEOUT_S)
        for worker in [*self._workers, *self._last_workers]:
            if worker.is_alive():
                log.error("worker.stuck", worker=worker.name)
                self.exit_code = 1
        for close in reversed(self._closers):
            close()

    @staticmethod
    def _join(workers: list[threading.Thread], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        log.info("service.stopping", service=self.name, signal=signal.Signals(number).name)
        self.stop.set()


def build_server(name: str, app: Any, http: HttpSettings) -> wsgi.Server:
    """Return the HTTP server of ``http``: TLS if it is set, and whose headers are believed.

    Raises UnknownSetting when certificate and key cannot be used.
    """
    server = wsgi.Server(
        (http.host, http.port),
        TrustedProxies(app, http.trusted_proxies),
        # Watchers hold a thread each, and never one that commands need.
        numthreads=http.threads + http.watchers,
        request_queue_size=128,
        shutdown_timeout=5,
        server_name=name,
    )
    server.ConnectionClass = BoundedConnection
    server.ssl_adapter = _tls(http)
    return server


def _tls(http: HttpSettings) -> Any:
    """Return what speaks TLS for the server, or None. Raises UnknownSetting."""
    if http.tls_cert_file is None or http.tls_key_file is None:
        return None
    # A key that others can read is refused here, as every secret file is.
    read_secret_file(http.tls_key_file)
    try:
        adapter = BuiltinSSLAdapter(str(http.tls_cert_file), str(http.tls_key_file))
    except (OSError, ssl.SSLError) as error:
        raise UnknownSetting(
            f"http.tls_cert_file and http.tls_key_file do not fit together ({type(error).__name__})"
        ) from None
    adapter.context.minimum_version = ssl.TLSVersion.TLSv1_2
    return adapter
