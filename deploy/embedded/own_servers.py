"""An operator's own PostgreSQL and Kafka: checked before anything is started."""

from __future__ import annotations

import socket

import psycopg

from deploy.embedded.configs import SERVICE_ROLES, postgres_dsn
from deploy.embedded.folder import StateFolder
from deploy.embedded.place import Place
from shared.database import check_version
from shared.errors import KafkaUnavailable, PostgresUnavailable, StackUnsupportedServer

CONNECT_TIMEOUT_S = 10


def check_own_servers(state: StateFolder, place: Place) -> None:
    """Check what the operator brought; nothing to do for a part that is embedded.

    Raises PostgresUnavailable or KafkaUnavailable when it does not answer, and
    StackUnsupportedServer when it is too old or a right is missing.
    """
    if place.postgres is not None:
        for role in SERVICE_ROLES.values():
            check_postgres(postgres_dsn(state, place, role))
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


def check_postgres(dsn: str) -> None:
    """Check one connection string: reachable, 14 or newer, may make schemas."""
    try:
        connection = psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg.OperationalError as error:
        raise PostgresUnavailable(f"your PostgreSQL refuses: {str(error).strip()}") from error
    with connection:
        check_version(connection.info.server_version)
        row = connection.execute(
            "SELECT has_database_privilege(current_database(), 'CREATE'), current_user,"
            " current_database(), pg_is_in_recovery()"
        ).fetchone()
    assert row is not None
    may_create, user, database, is_replica = row
    if is_replica:
        raise StackUnsupportedServer("your PostgreSQL is a read-only replica")
    if not may_create:
        raise StackUnsupportedServer(
            f"{user} may not make schemas in the database {database}",
            hint=f'As its owner run: GRANT CREATE ON DATABASE "{database}" TO "{user}"',
        )
