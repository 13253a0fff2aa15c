"""An operator's own PostgreSQL and Kafka instead of the embedded ones, by settings alone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import tomli_w
from psycopg import conninfo

from deploy.embedded.configs import strip_password
from deploy.embedded.database import read_password
from deploy.embedded.own_servers import check_one_database
from deploy.embedded.place import OwnPostgres, Place, save_place
from shared.errors import UnknownSetting
from shared.kafka import Kafka
from shared.messages.topics import TOPICS
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres, embedded_postgres
from tests.plugins.stack import StackUnderTest

NewStack = Callable[..., StackUnderTest]


@pytest.fixture
def kafka_file(kafka: TestKafka, tmp_path: Path) -> tuple[Path, str]:
    prefix = kafka.fresh_prefix()
    settings = kafka.settings(prefix=prefix).model_dump(mode="json", exclude_none=True)
    path = tmp_path / "kafka.toml"
    path.write_text(tomli_w.dumps({"kafka": settings}))
    return path, prefix


def url_with_password(postgres: TestPostgres) -> str:
    dsn = conninfo.conninfo_to_dict(postgres.fresh_database())
    password = read_password(Path(str(dsn["passfile"])))
    return f"postgresql://{dsn['user']}:{password}@{dsn['host']}:{dsn['port']}/{dsn['dbname']}"


def test_a_stack_runs_on_own_servers_and_starts_none_of_its_own(
    new_stack: NewStack,
    postgres: TestPostgres,
    kafka: TestKafka,
    kafka_file: tuple[Path, str],
) -> None:
    url = url_with_password(postgres)
    stack = new_stack(SECRYN_POSTGRES_URL=url)
    found = stack.up("--kafka-config", str(kafka_file[0]))
    assert found["healthy"] is True
    assert [process["name"] for process in found["processes"]] == ["projector", "backup", "restore"]
    assert found["kafka_bootstrap"] == kafka.bootstrap
    with Kafka(kafka.settings(), "test").admin() as admin:
        for topic in TOPICS:
            assert admin.log_identity(kafka_file[1] + topic)
    password = conninfo.conninfo_to_dict(url)["password"]
    assert str(password) not in found["postgres_dsn"]
    with psycopg.connect(found["postgres_dsn"]) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    # Without the wishes the place remembers them.
    stack.down()
    assert len(stack.up()["processes"]) == 3


def test_an_own_postgresql_that_does_not_answer_is_named(new_stack: NewStack) -> None:
    error = new_stack().refusal("up", "--postgres-url", "postgresql://127.0.0.1:9/none")
    assert error["code"] == "postgres.unavailable"


def test_a_malformed_url_is_refused_and_not_repeated(new_stack: NewStack) -> None:
    error = new_stack().refusal("up", "--postgres-url", "postgresql://u:hunter2@[/x")
    assert error["code"] == "settings.invalid"
    assert "hunter2" not in error["message"] + error["hint"]


def test_an_own_postgresql_without_the_right_to_make_schemas_is_refused(
    new_stack: NewStack, postgres: TestPostgres
) -> None:
    place = postgres.fresh_place()
    error = new_stack().refusal("up", "--postgres-url", place.dsn("secryn_platform"))
    assert error["code"] == "stack.unsupported_server"
    assert "GRANT CREATE" in error["hint"]


def test_processes_that_would_use_two_databases_are_refused_by_name(
    new_stack: NewStack, postgres: TestPostgres
) -> None:
    here, beside = url_with_password(postgres), url_with_password(postgres)
    databases = [conninfo.conninfo_to_dict(url)["dbname"] for url in (here, beside)]
    stack = new_stack()
    stack.state.mkdir(mode=0o700, parents=True)
    own = OwnPostgres(url=here, restore_url=beside)
    save_place(stack.state / "place.toml", Place(instance_id=uuid4(), postgres=own))
    error = stack.refusal("up")
    assert error["code"] == "settings.invalid"
    assert error["message"] == (
        f"postgres.url leads to the database {databases[0]}, "
        f"and postgres.restore_url to {databases[1]} beside it"
    )


def test_databases_of_one_name_on_two_servers_are_two(
    postgres: TestPostgres, another_server: TestPostgres
) -> None:
    dsns = {"postgres.url": postgres.dsn, "postgres.backup_url": another_server.dsn}
    with pytest.raises(UnknownSetting, match=r"postgres\.backup_url to postgres of another server"):
        check_one_database(dsns)
    check_one_database(dict.fromkeys(dsns, postgres.dsn))


@pytest.fixture
def another_server() -> Iterator[TestPostgres]:
    """Another PostgreSQL than the session's."""
    folder = Path(tempfile.mkdtemp(prefix="secryn-test-pg-"))
    try:
        with embedded_postgres(folder) as found:
            yield found
    finally:
        shutil.rmtree(folder)


def test_an_own_kafka_that_does_not_answer_is_named(new_stack: NewStack, tmp_path: Path) -> None:
    path = tmp_path / "kafka.toml"
    path.write_text('[kafka]\nbootstrap = "127.0.0.1:9"\nsecurity_protocol = "PLAINTEXT"\n')
    assert new_stack().refusal("up", "--kafka-config", str(path))["code"] == "kafka.unavailable"


def test_an_unknown_kafka_setting_is_refused(new_stack: NewStack, tmp_path: Path) -> None:
    path = tmp_path / "kafka.toml"
    path.write_text('[kafka]\nbootstrap = "127.0.0.1:9"\npasswort = "hunter2"\n')
    error = new_stack().refusal("up", "--kafka-config", str(path))
    assert error["code"] == "settings.invalid"
    assert "passwort" in error["message"]
    assert "hunter2" not in error["message"]


def test_a_password_in_a_url_moves_into_a_closed_passfile(tmp_path: Path) -> None:
    passfile = tmp_path / "pass"
    dsn = strip_password("postgresql://u:a%3Ab@h:5/d?sslmode=require", passfile)
    assert conninfo.conninfo_to_dict(dsn) == {
        "user": "u", "host": "h", "port": "5", "dbname": "d", "sslmode": "require",
        "passfile": str(passfile),
    }  # fmt: skip
    assert passfile.read_text() == "*:*:*:*:a\\:b\n"
    assert passfile.stat().st_mode & 0o777 == 0o600
