"""Another user of the machine gets nowhere; and each user of ours only where it belongs."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError, TopicAuthorizationFailedError
from psycopg import conninfo

from shared.messages import topics
from tests.plugins.stack import StackUnderTest

STRANGER = "secryn-test-stranger"
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@dataclass(frozen=True)
class Stranger:
    """Another, ordinary user of the machine."""

    uid: int
    gid: int


@pytest.fixture(scope="module")
def stranger() -> Iterator[Stranger]:
    try:
        entry = pwd.getpwnam(STRANGER)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", STRANGER], check=True)
        entry = pwd.getpwnam(STRANGER)
    yield Stranger(entry.pw_uid, entry.pw_gid)
    subprocess.run(["userdel", STRANGER], check=True)


def as_stranger(stranger: Stranger, action: str) -> str:
    """Run ``action`` (a function of ``path``) in a forked child as the stranger; say how it went.

    A fork needs no interpreter that the stranger could reach.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(stranger.gid)
            os.setuid(stranger.uid)
            exec(action, {"os": os, "Path": Path})
            os.write(writer, b"done")
        except BaseException as error:
            os.write(writer, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


@only_root
def test_another_user_reads_nothing_of_the_state(
    running_stack: StackUnderTest, stranger: Stranger
) -> None:
    assert as_stranger(stranger, "os.listdir('/')") == "done"
    root = running_stack.state
    assert as_stranger(stranger, f"os.listdir({str(root)!r})") == "PermissionError"
    files = [str(path) for path in root.rglob("*") if path.is_file()]
    files += [str(path / "planted") for path in (root, root / "run", root / "keys")]
    # Opening for appending would read nothing, but make what is not there.
    action = f"""
for path in {files!r}:
    for mode in ("rb", "ab"):
        try:
            open(path, mode)
        except PermissionError:
            continue
        raise AssertionError(path)
"""
    assert len(files) > 100
    assert as_stranger(stranger, action) == "done"


@only_root
def test_another_user_cannot_signal_or_look_into_a_process(
    running_stack: StackUnderTest, stranger: Stranger
) -> None:
    for pid in running_stack.pids().values():
        assert as_stranger(stranger, f"os.kill({pid}, 0)") == "PermissionError"
        assert as_stranger(stranger, f"open('/proc/{pid}/environ').read()") == "PermissionError"


def test_the_modes_of_the_state_let_nobody_in(running_stack: StackUnderTest) -> None:
    root = running_stack.state.stat()
    assert root.st_uid == os.geteuid()
    assert stat.S_IMODE(root.st_mode) == (0o710 if os.geteuid() == 0 else 0o700)
    for folder in running_stack.state.iterdir():
        assert not stat.S_IMODE(folder.stat().st_mode) & 0o077, folder


def test_nothing_listens_beyond_loopback_or_on_a_socket_of_the_file_system(
    running_stack: StackUnderTest,
) -> None:
    for pid in running_stack.pids().values():
        process = psutil.Process(pid)
        listening = [c for c in process.net_connections("inet") if c.status == "LISTEN"]
        assert {connection.laddr.ip.removeprefix("::ffff:") for connection in listening} <= {
            "127.0.0.1"
        }
    assert not [path for path in running_stack.state.rglob("*") if path.is_socket()]


@pytest.mark.parametrize("user", ["secryn_admin", "secryn_backup", "postgres", "root"])
def test_postgresql_lets_nobody_in_without_a_password(
    running_stack: StackUnderTest, user: str
) -> None:
    address = conninfo.conninfo_to_dict(running_stack.postgres_admin())
    for password in ("", "wrong", user):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(
                host=str(address["host"]),
                port=str(address["port"]),
                dbname="secryn",
                user=user,
                password=password,
                passfile="/dev/null",
            )


def test_kafka_lets_nobody_in_without_a_password(running_stack: StackUnderTest) -> None:
    bootstrap = running_stack.kafka("admin").bootstrap
    for options in (
        {"security_protocol": "PLAINTEXT"},
        {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-256",
            "sasl_plain_username": "admin",
            "sasl_plain_password": "wrong",
        },
    ):
        with pytest.raises(KafkaError):
            KafkaConsumer(
                bootstrap_servers=bootstrap, bootstrap_timeout_ms=1500, **options
            ).topics()


@pytest.mark.parametrize("name", ["backup_url", "restore_url", "projector_url"])
def test_an_endpoint_answers_nobody_without_the_token(
    running_stack: StackUnderTest, name: str
) -> None:
    url = str(running_stack.status()[name])
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            request = urllib.request.Request(url + "/metrics", headers=headers)
            urllib.request.urlopen(request, timeout=5)
        assert refused.value.code == 401


WRITERS = {
    # backup_service tells there that a log was adopted.
    topics.INSTANCE_EVENTS: {"platform", "restore", "backup"},
    # restore_service may ask for a running backup to be given up; it signs that like any issuer.
    topics.BACKUP_COMMANDS: {"platform", "restore"},
    topics.BACKUP_EVENTS: {"backup"},
    topics.RESTORE_COMMANDS: {"platform"},
    topics.RESTORE_EVENTS: {"restore"},
    topics.AUDIT: {"backup", "restore"},
}


def test_the_table_of_rights_names_every_topic_and_the_writers_of_the_design() -> None:
    from deploy.embedded.rights import TOPIC_RIGHTS

    table = {rights.topic: set(rights.writers) for rights in TOPIC_RIGHTS}
    assert table.keys() == topics.TOPICS.keys()
    assert {name: table[name] for name in WRITERS} == WRITERS


@pytest.mark.parametrize("user", ["projector", "backup", "restore", "platform"])
def test_a_user_writes_only_where_it_may(running_stack: StackUnderTest, user: str) -> None:
    settings = running_stack.kafka(user)
    assert settings.password_file is not None
    producer = KafkaProducer(
        bootstrap_servers=settings.bootstrap,
        security_protocol=settings.security_protocol,
        sasl_mechanism=settings.sasl_mechanism,
        sasl_plain_username=settings.username,
        sasl_plain_password=settings.password_file.read_text(),
        enable_idempotence=False,
        retries=0,
    )
    try:
        for topic, writers in WRITERS.items():
            if user in writers:
                continue
            with pytest.raises(TopicAuthorizationFailedError):
                producer.send(settings.topic_prefix + topic, b"forged").get(timeout=10)
    finally:
        producer.close(timeout=2)
