"""Make in PostgreSQL and Kafka what the services need: roles, the database, users, topics, rights."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psycopg

from deploy.containers.broker import ADMIN_MECHANISM
from deploy.containers.place import MASTER
from deploy.embedded.configs import kafka_settings
from deploy.embedded.database import DATABASE, ROLES, ensure_database, passfile_line, read_password
from deploy.embedded.folder import StateFolder, open_state
from deploy.embedded.own_servers import check_reachable
from deploy.embedded.place import Place, load_place
from deploy.embedded.postgres import SUPERUSER
from deploy.embedded.users import ADMIN, USERS
from shared.errors import PostgresUnavailable, UnavailableError
from shared.secretfiles import read_secret_file, write_secret_file

CONNECT_TIMEOUT_S: Final = 5
PAUSE_S: Final = 0.5


def provision(folder: Path, wait_s: float, tell: Callable[[str], None]) -> Place:
    """Bring both servers of the place in ``folder`` up to date; wait ``wait_s`` for each to answer.

    Doing it again changes nothing. Raises PostgresUnavailable, KafkaUnavailable, UnknownSetting
    when a topic is not as it must be, StackUnsupportedServer when PostgreSQL is too old.
    """
    master = open_state(folder / MASTER)
    place = load_place(master.place)
    _patiently(lambda: _provision_postgres(master, place), wait_s)
    tell("PostgreSQL: roles, database and rights are there")
    _patiently(lambda: _provision_kafka(master, place), wait_s)
    tell("Kafka: users, topics and rights are there")
    return place


def _provision_postgres(master: StateFolder, place: Place) -> None:
    # libpq finds a password by the host that it connects to.
    passfile = master.root / "run" / "superuser.pass"
    password = read_password(master.passfile(SUPERUSER))
    line = passfile_line(place.hosts.postgres, SUPERUSER, password)
    write_secret_file(passfile, line, exist_ok=True)
    dsn = psycopg.conninfo.make_conninfo(
        host=place.hosts.postgres, port=place.ports.postgres, dbname="postgres", user=SUPERUSER,
        passfile=str(passfile), connect_timeout=CONNECT_TIMEOUT_S,
    )  # fmt: skip
    try:
        ensure_database(dsn, DATABASE, {role: master.passfile(role) for role in ROLES})
    except psycopg.OperationalError as error:
        raise PostgresUnavailable(f"PostgreSQL refuses: {str(error).strip()}") from error
    finally:
        passfile.unlink()


def _provision_kafka(master: StateFolder, place: Place) -> None:
    from deploy.embedded.topics import provision_kafka

    settings = kafka_settings(master, place, ADMIN)
    check_reachable(settings.bootstrap)
    provision_kafka(
        settings.model_copy(update={"sasl_mechanism": ADMIN_MECHANISM}),
        {user: read_secret_file(master.kafka_password(user)).decode() for user in USERS},
    )


def _patiently(work: Callable[[], None], wait_s: float) -> None:
    """Do ``work`` until its server answers; raise what it met last when the time is over."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            work()
            return
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_S)
