"""An operator's own PostgreSQL and Kafka: checked before anything is started."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import psycopg

from deploy.embedded.configs import SERVICE_ROLES, ProcessName, postgres_dsn
from deploy.embedded.folder import StateFolder
from deploy.embedded.place import OwnPostgres, Place
from shared.database import check_version
from shared.errors import (
    KafkaUnavailable,
    PostgresUnavailable,
    StackUnsupportedServer,
    UnknownSetting,
)

CONNECT_TIMEOUT_S = 10


def check_own_servers(state: StateFolder, place: Place) -> None:
    """Check what the operator brought; nothing to do for a part that is embedded.

    Raises PostgresUnavailable or KafkaUnavailable when it does not answer, and
    StackUnsupportedServer when it is too old or a right is missing, UnknownSetting when the
    processes' addresses lead to more than one database.
    """
    if place.postgres is not None:
        check_one_database(
            {
                _named(place.postgres, name): postgres_dsn(state, place, role)
                for name, role in SERVICE_ROLES.items()
            }
        )
    if place.kafka is not None:
        from deploy.embedded.topics import ensure_topics

        check_reachable(place.kafka.bootstrap)
        ensure_topics(state, place)


def check_reachable(bootstrap: str) -> None:
    """Open a connection to one of ``bootstrap``'s servers; the client itself tries for 30 s.

    Raises KafkaUnavailable when none takes it.
    """
    faults = []
    for server in bootstrap.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
            return
        except (OSError, ValueError) as error:
            faults.append(f"{server}: {error}")
    raise KafkaUnavailable(f"your Kafka does not answer: {'; '.join(faults)}")


def _named(own: OwnPostgres, name: ProcessName) -> str:
    """Return the setting that says where one process finds PostgreSQL."""
    field = f"{name}_url"
    return f"postgres.{'url' if getattr(own, field) is None else field}"


def check_one_database(dsns: Mapping[str, str]) -> None:
    """Check connection strings, by the setting of each, and that they lead to one database.

    Raises as ``check_own_servers`` does.
    """
    with ExitStack() as stack:
        # All at once: a server that is started anew meanwhile is no other one.
        found = {name: stack.enter_context(_connected(dsn)) for name, dsn in dsns.items()}
        places = {name: _check_postgres(connection) for name, connection in found.items()}
    first, *others = places
    for other in others:
        (server, database), (other_server, other_database) = places[first], places[other]
        if (server, database) == (other_server, other_database):
            continue
        where = "of another server" if server != other_server else "beside it"
        raise UnknownSetting(
            f"{first} leads to the database {database}, and {other} to {other_database} {where}",
            hint="Backup, restore and projector share one database: name the same in every URL.",
        )


def _connected(dsn: str) -> psycopg.Connection[tuple[Any, ...]]:
    try:
        return psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg.OperationalError as error:
        raise PostgresUnavailable(f"your PostgreSQL refuses: {str(error).strip()}") from error


def _check_postgres(connection: psycopg.Connection[tuple[Any, ...]]) -> tuple[datetime, str]:
    """Check one: 14 or newer, may make schemas. Return which server and which database it is."""
    check_version(connection.info.server_version)
    row = connection.execute(
        "SELECT has_database_privilege(current_database(), 'CREATE'), current_user,"
        # A copy of a server has its identifier, and began at another time.
        " current_database(), pg_is_in_recovery(), pg_postmaster_start_time()"
    ).fetchone()
    assert row is not None
    may_create, user, database, is_replica, began_at = row
    if is_replica:
        raise StackUnsupportedServer("your PostgreSQL is a read-only replica")
    if not may_create:
        raise StackUnsupportedServer(
            f"{user} may not make schemas in the database {database}",
            hint=f'As its owner run: GRANT CREATE ON DATABASE "{database}" TO "{user}"',
        )
    return began_at, database
