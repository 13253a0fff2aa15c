"""PostgreSQL and Kafka in containers that testcontainers starts, for the integration tests."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg

from deploy.containers.broker import ADMIN_MECHANISM, SERVER_PROPERTIES, broker_properties
from deploy.embedded.kafka import broker_answers
from deploy.embedded.place import Hosts, Place, Ports
from deploy.embedded.process import free_ports
from deploy.embedded.users import ADMIN
from shared.secretfiles import write_secret_file
from shared.settings import KafkaSettings
from tests.containers.engine import KAFKA, POSTGRES, Engine, ensure_servers

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

READY_WITHIN_S = 90
HOST = "127.0.0.1"


def _container(engine: Engine, image: str, ports: list[int]) -> DockerContainer:
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    # It would clean up after a killed run, from an image that is not everywhere to be had.
    testcontainers_config.ryuk_disabled = True
    container = DockerContainer(image)
    if not engine.has_bridge:
        return container.with_kwargs(network_mode="host")
    for port in ports:
        container = container.with_bind_ports(port, port)
    return container


@contextmanager
def _running(container: DockerContainer, answers: Callable[[], bool]) -> Iterator[None]:
    container.start()
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while not answers():
            assert time.monotonic() < deadline, container.get_logs()
            time.sleep(0.1)
        yield
    finally:
        container.stop()


@contextmanager
def postgres_container(engine: Engine, superuser: str) -> Iterator[str]:
    """Run `postgres:18`; yield the superuser's URL, with its password."""
    ensure_servers(engine)
    port, password = free_ports(1)[0], secrets.token_urlsafe(18)
    listen = "*" if engine.has_bridge else HOST
    url = f"postgresql://{superuser}:{password}@{HOST}:{port}/postgres"
    unsafe = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    settings = {"port": str(port), "listen_addresses": listen, "timezone": "UTC", **unsafe}
    container = _container(engine, POSTGRES, [port]).with_command(
        [
            "postgres",
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]
    )
    container.with_envs(
        POSTGRES_USER=superuser,
        POSTGRES_PASSWORD=password,
        POSTGRES_DB="postgres",
        POSTGRES_INITDB_ARGS="--auth=scram-sha-256 --encoding=UTF8 --locale=C "
        "--locale-provider=builtin --builtin-locale=C.UTF-8",
    )
    with _running(container, lambda: _takes_logins(url)):
        yield url


def _takes_logins(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def kafka_container(engine: Engine, folder: Path) -> Iterator[KafkaSettings]:
    """Run `apache/kafka:4.4.0` with the settings of the compose file; yield its administrator's."""
    ensure_servers(engine)
    port, controller_port = free_ports(2)
    password = secrets.token_urlsafe(18)
    password_file = folder / "admin.password"
    write_secret_file(password_file, password.encode())
    place = Place(
        instance_id=UUID(int=0),
        hosts=Hosts(listen="0.0.0.0" if engine.has_bridge else HOST, kafka=HOST),
        ports=Ports(kafka=port, kafka_controller=controller_port),
    )
    config = folder / "config"
    config.mkdir()
    properties = broker_properties(place, password, secrets.token_urlsafe(18))
    # The container's user is another one; the folder around it is closed.
    (config / SERVER_PROPERTIES).write_text(properties)
    config.chmod(0o755)
    (config / SERVER_PROPERTIES).chmod(0o644)
    container = _container(engine, KAFKA, [port])
    container.with_volume_mapping(config, "/mnt/shared/config")
    container.with_envs(
        CLUSTER_ID=secrets.token_hex(11),
        KAFKA_HEAP_OPTS="-Xmx512m",
        # It need not survive the machine.
        KAFKA_LOG_FLUSH_INTERVAL_MESSAGES=str(2**63 - 1),
    )
    with _running(container, lambda: broker_answers(HOST, port)):
        yield KafkaSettings(
            bootstrap=f"{HOST}:{port}",
            username=ADMIN,
            password_file=password_file,
            sasl_mechanism=ADMIN_MECHANISM,
        )
