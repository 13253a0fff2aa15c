"""The parts of a stack: PostgreSQL, Kafka, the projector and the two services."""

from __future__ import annotations

import http.client
import importlib
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import pq

from deploy.embedded.addresses import Address, address_of
from deploy.embedded.configs import SERVICE_ROLES, topic_prefix
from deploy.embedded.database import DATABASE, ROLES, ensure_database, read_password
from deploy.embedded.folder import StateFolder, rotate_log
from deploy.embedded.kafka import KafkaServer, broker_answers, stop_kafka
from deploy.embedded.keeper import Part
from deploy.embedded.place import Place
from deploy.embedded.postgres import SUPERUSER, PostgresServer, stop_postgres
from deploy.embedded.process import Account, ProcessMark, spawn
from deploy.embedded.users import ALL_USERS, CONTROLLER
from shared.errors import SecrynError
from shared.health import LastingFault
from shared.secretfiles import read_secret_file, write_secret_file

MODULES = {
    "projector": "backup_service.projector",
    "backup": "backup_service",
    "restore": "restore_service",
}
PROBE_TIMEOUT_S = 3.0
ANSWER_MAX_BYTES = 4 * 1024 * 1024
_HOST = "127.0.0.1"


@dataclass(frozen=True)
class KafkaFiles:
    """What Kafka is started from: the folder of its jars, and Java's cache if there is one."""

    jars: Path
    java_cache: Path | None


def build_parts(
    state: StateFolder, place: Place, account: Account | None, kafka: KafkaFiles | None
) -> list[Part]:
    """Return every part that this place runs itself, dependencies first.

    ``kafka`` is None when the operator's own Kafka is used.
    """
    parts = []
    if place.postgres is None:
        parts.append(_postgres_part(state, place, account))
    if kafka is not None:
        parts.append(_kafka_part(state, place, kafka))
    needs = tuple(part.name for part in parts)
    token = read_secret_file(state.token).decode("ascii")
    parts += [_service_part(state, place, name, needs, token) for name in SERVICE_ROLES]
    return parts


def postgres_server(state: StateFolder, place: Place, account: Account | None) -> PostgresServer:
    """Return the embedded PostgreSQL of this state."""
    return PostgresServer(
        state.folder("postgres"),
        place.ports.postgres,
        state.log("postgres"),
        state.passfile(SUPERUSER),
        account,
    )


def kafka_server(state: StateFolder, place: Place, files: KafkaFiles) -> KafkaServer:
    """Return the embedded Kafka of this state."""
    return KafkaServer(
        state.folder("kafka"),
        files.jars,
        place.ports.kafka,
        place.ports.kafka_controller,
        state.log("kafka"),
        {user: read_secret_file(state.kafka_password(user)).decode() for user in ALL_USERS},
        read_secret_file(state.kafka_password(CONTROLLER)).decode(),
        files.java_cache,
    )


def _postgres_part(state: StateFolder, place: Place, account: Account | None) -> Part:
    server = postgres_server(state, place, account)
    address = f"host={_HOST} port={server.port} connect_timeout=3".encode()

    def start() -> subprocess.Popen[bytes]:
        rotate_log(server.log_file)
        server.create(read_password(server.passfile))
        return server.start()

    def fault() -> str | None:
        answer = pq.PGconn.ping(address)
        return None if answer == pq.Ping.OK else "PostgreSQL takes no connections yet"

    def provision() -> None:
        passfiles = {role: state.passfile(role) for role in ROLES}
        ensure_database(server.dsn(), DATABASE, passfiles)

    return Part(
        "postgres", server.log_file, start, fault, stop_postgres, provision=provision,
        endpoint=f"{_HOST}:{server.port}",
    )  # fmt: skip


def _kafka_part(state: StateFolder, place: Place, files: KafkaFiles) -> Part:
    server = kafka_server(state, place, files)
    # Beside what it tells of: a lost disk takes the topics, and this with them.
    marker = server.folder / "data" / "provisioned"

    def start() -> subprocess.Popen[bytes]:
        rotate_log(server.log_file)
        server.create()
        process = server.start()
        # Loading the Kafka client takes 0.3 s, which pass while Kafka starts.
        importlib.import_module("deploy.embedded.topics")
        return process

    def fault() -> str | None:
        return None if broker_answers(_HOST, server.port) else "Kafka does not answer yet"

    def provision() -> None:
        from deploy.embedded.topics import ensure_topics, provisioning

        # Made once: asking for every topic and right again would cost each start 0.7 s.
        wanted = provisioning(topic_prefix(place))
        if not marker.exists() or marker.read_text(encoding="ascii") != wanted:
            ensure_topics(state, place)
            write_secret_file(marker, wanted.encode(), exist_ok=True)

    return Part(
        "kafka", server.log_file, start, fault, stop_kafka, provision=provision,
        endpoint=server.bootstrap,
    )  # fmt: skip


def _service_part(
    state: StateFolder, place: Place, name: str, needs: tuple[str, ...], token: str
) -> Part:
    address = address_of(state, place, name)
    log_file = state.log(name)
    argv = [sys.executable, "-P", "-m", MODULES[name], "--config", str(state.config(name))]

    def start() -> subprocess.Popen[bytes]:
        rotate_log(log_file)
        return spawn(argv, cwd=state.root, log_file=log_file, env=dict(os.environ))

    return Part(
        name, log_file, start, _http_fault(address, token), stop_service, needs,
        endpoint=address.url,
    )  # fmt: skip


def stop_service(mark: ProcessMark, grace_s: float) -> None:
    """End a service: SIGTERM, by which it finishes its work in hand, then the kill."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        mark.send(number)
        if mark.wait(wait_s):
            return


def _http_fault(address: Address, token: str) -> Callable[[], str | None]:
    def fault() -> str | None:
        return service_fault(address, token)

    return fault


def service_fault(address: Address, token: str) -> str | None:
    """Ask a service whether it is ready; return None, or what is wrong in one line.

    A ``LastingFault`` when the service says that waiting does not help.
    """
    try:
        status, body = _get(address, token, "/readyz")
    except SecrynError as error:
        return LastingFault(error.message)
    except ssl.SSLCertVerificationError as error:
        return LastingFault(
            f"its certificate is not believed ({error.verify_message}): name who signed it in "
            "http.tls_ca_file"
        )
    except (OSError, http.client.HTTPException) as error:
        return f"no answer on port {address.port} ({type(error).__name__})"
    if status == 200:
        return None
    try:
        answer = json.loads(body)
        shown = "; ".join(f"{name}: {fault}" for name, fault in answer["faults"].items())
        return LastingFault(shown) if answer.get("lasting") is True else shown
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"/readyz answers {status}"


def service_document(address: Address, token: str, path: str) -> dict[str, Any] | None:
    """Return the JSON object that a service answers with at ``path``, or None without one."""
    try:
        status, body = _get(address, token, path)
        document = json.loads(body)
    except (OSError, http.client.HTTPException, ValueError, SecrynError):
        return None
    return document if status == 200 and isinstance(document, dict) else None


def _get(address: Address, token: str, path: str) -> tuple[int, bytes]:
    connection = address.connect(PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, response.read(ANSWER_MAX_BYTES)
    finally:
        connection.close()
