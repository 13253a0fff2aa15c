"""What the projector does not begin to work with: a topic that is another, a server that is too old."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from psycopg import conninfo

from backup_service.projector.app import run
from backup_service.projector.settings import ProjectorSettings
from deploy.containers.place import MASTER, make_place
from deploy.containers.servers import provision
from deploy.embedded.database import ROLES, passfile_line, read_password
from deploy.embedded.folder import StateFolder
from deploy.embedded.postgres import SUPERUSER
from shared.database import open_pool
from shared.errors import StackUnsupportedServer, UnknownSetting
from shared.secretfiles import read_secret_file, write_secret_file
from shared.settings import PostgresSettings, load_settings
from tests.plugins.instance import TestInstance
from tests.plugins.postgres import TestPostgres


@pytest.fixture
def settings(instance: TestInstance, own_signals: None) -> ProjectorSettings:
    """Settings of a projector of ``instance``, which is run in this process."""
    return load_settings(ProjectorSettings, instance.write_config(instance.dsn)[0], {})


@pytest.fixture
def no_server_is_new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old PostgreSQL is not to be had: so the least version is one that is still to come."""
    monkeypatch.setattr("shared.database.LEAST_VERSION", 990_000)


def keep_for_an_hour(instance: TestInstance) -> None:
    kafka = instance.settings
    assert kafka.password_file is not None
    admin = KafkaAdminClient(
        bootstrap_servers=kafka.bootstrap,
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_plain_username=kafka.username,
        sasl_plain_password=read_secret_file(kafka.password_file).decode(),
    )
    changed = {"retention.ms": "3600000"}
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, instance.topic, changed)])
    admin.close()


def test_a_log_that_is_not_kept_is_refused_by_name(
    instance: TestInstance, settings: ProjectorSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_for_an_hour(instance)
    assert run(settings) == UnknownSetting.exit_code
    told = "".join(capsys.readouterr())
    assert f"the topic {instance.topic} has retention.ms=3600000, it must be -1" in told


def test_a_postgresql_that_is_too_old_is_never_folded_into(
    instance: TestInstance,
    settings: ProjectorSettings,
    no_server_is_new_enough: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(settings) == StackUnsupportedServer.exit_code
    assert "PostgreSQL is 18, and 99 or newer is needed" in "".join(capsys.readouterr())
    assert instance.rows("SELECT to_regnamespace('instance')::text") == [(None,)]


@pytest.mark.usefixtures("no_server_is_new_enough")
def test_a_service_opens_no_pool_at_a_postgresql_that_is_too_old(postgres: TestPostgres) -> None:
    dsn = postgres.fresh_database()
    with pytest.raises(StackUnsupportedServer, match="PostgreSQL is 18, and 99 or newer"):
        open_pool(PostgresSettings(dsn=dsn), "too old")
    with psycopg.connect(dsn) as conn:
        left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'too old'"
        assert conn.execute(left).fetchone() == (0,)


@pytest.mark.usefixtures("no_server_is_new_enough")
def test_nothing_is_made_in_a_postgresql_that_is_too_old(
    tmp_path: Path, postgres: TestPostgres
) -> None:
    server = conninfo.conninfo_to_dict(postgres.dsn)
    wanted = tmp_path / "wanted.toml"
    wanted.write_text(
        f'[hosts]\npostgres = "{server["host"]}"\n[ports]\npostgres = {server["port"]}\n'
    )
    make_place(tmp_path / "place", wanted, lambda _: None, new_bootstrap=False)
    passfile = StateFolder(tmp_path / "place" / MASTER).passfile(SUPERUSER)
    password = read_password(Path(str(server["passfile"])))
    line = passfile_line(str(server["host"]), SUPERUSER, password)
    write_secret_file(passfile, line, exist_ok=True)
    with psycopg.connect(postgres.dsn) as conn:
        passwords = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY(%s)"
        before = conn.execute(passwords, [list(ROLES)]).fetchall()
        with pytest.raises(StackUnsupportedServer, match="PostgreSQL is 18, and 99 or newer"):
            provision(tmp_path / "place", 5, lambda _: None)
        assert conn.execute(passwords, [list(ROLES)]).fetchall() == before
