"""The embedded servers are real, and closed to who has no credential."""

from __future__ import annotations

import psycopg
import pytest
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres


def test_postgres_answers_its_superuser(postgres: TestPostgres) -> None:
    with psycopg.connect(postgres.fresh_database()) as connection:
        row = connection.execute("SELECT current_setting('server_version_num')::int").fetchone()
    assert row is not None
    assert row[0] >= 180000


def test_postgres_refuses_a_wrong_password(postgres: TestPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.dsn, passfile="/dev/null", password="wrong")


def test_a_role_reads_the_instance_and_does_not_write_it(postgres: TestPostgres) -> None:
    place = postgres.fresh_place()
    with psycopg.connect(place.dsn("secryn_projector")) as owner:
        owner.execute("CREATE SCHEMA instance")
        owner.execute("CREATE TABLE instance.projects (id int)")
    for role in ("secryn_backup", "secryn_restore", "secryn_platform"):
        with psycopg.connect(place.dsn(role)) as reader:
            assert reader.execute("SELECT count(*) FROM instance.projects").fetchone() == (0,)
    with (
        psycopg.connect(place.dsn("secryn_platform")) as platform,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        platform.execute("INSERT INTO instance.projects VALUES (1)")


def test_kafka_answers_its_admin(kafka: TestKafka) -> None:
    settings = kafka.settings()
    assert settings.password_file is not None
    admin = KafkaAdminClient(
        bootstrap_servers=kafka.bootstrap,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_plain_username="admin",
        sasl_plain_password=settings.password_file.read_text(),
    )
    try:
        assert admin.describe_cluster()["brokers"]
    finally:
        admin.close()


def test_kafka_refuses_a_wrong_password(kafka: TestKafka) -> None:
    with pytest.raises(KafkaError):
        KafkaAdminClient(
            bootstrap_servers=kafka.bootstrap,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="SCRAM-SHA-256",
            sasl_plain_username="admin",
            sasl_plain_password="wrong",
            bootstrap_timeout_ms=3000,
        )
