"""A real Kafka for the tests: one broker a session, started when a test first asks for it.

    def test_messages(kafka):
        kafka.bootstrap                          # host:port, SASL_PLAINTEXT, SCRAM-SHA-256
        settings = kafka.settings()              # KafkaSettings of `admin`, who may do all
        kafka.settings("backup")                 # ... of another user: projector, backup,
                                                 #     restore, platform
        kafka.fresh_prefix()                     # a topic prefix of your own, "t3f9c2a."
        kafka.settings(prefix=...)               # ... in the settings

    kafka.grant(prefix)                      # the rights that a stack's users have

With ``--stack=containers`` it is a container's, with ``--stack=external`` one that runs already
(``--kafka-config``, an administrator's settings; it and the users projector, backup, restore and
platform get logins by SCRAM-SHA-256, the users' passwords are of the tests). Users other than admin have no rights until a test gives them some.
Topics are never shared: take a prefix of your own. A broker of ours does not flush.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

from deploy.embedded.fast_start import ensure_fast_start
from deploy.embedded.jars import default_cache, ensure_jars
from deploy.embedded.kafka import KafkaServer, stop_kafka
from deploy.embedded.logins import ensure_logins
from deploy.embedded.process import free_ports, mark_of
from deploy.embedded.rights import apply_rights
from deploy.embedded.singlenode import MECHANISM
from deploy.embedded.users import ADMIN, ALL_USERS, USERS
from shared.secretfiles import read_secret_file, write_secret_file
from shared.settings import KafkaSettings
from tests.containers.servers import kafka_container
from tests.plugins.containers import CONTAINERS, EXTERNAL


@dataclass(frozen=True)
class TestKafka:
    """The session's broker; ``administrator`` are the settings of who may do all."""

    __test__ = False

    administrator: KafkaSettings
    password_files: dict[str, Path]
    prefixes: list[str] = field(default_factory=list)

    @property
    def bootstrap(self) -> str:
        return self.administrator.bootstrap

    def fresh_prefix(self) -> str:
        """Return a topic prefix that no other test has."""
        self.prefixes.append(f"t{secrets.token_hex(5)}.")
        return self.prefixes[-1]

    def settings(self, user: str = ADMIN, prefix: str | None = None) -> KafkaSettings:
        """Return the settings of one user, with a fresh prefix when none is given."""
        who = {} if user == ADMIN else {
            "username": user,
            "password_file": self.password_files[user],
            "sasl_mechanism": MECHANISM,
        }  # fmt: skip
        prefix = prefix if prefix is not None else self.fresh_prefix()
        return self.administrator.model_copy(update={**who, "topic_prefix": prefix})

    def grant(self, prefix: str) -> None:
        """Give every user the rights that it has in a stack, on the topics of ``prefix``."""
        with self.client() as admin:
            apply_rights(admin, prefix)

    @contextmanager
    def client(self) -> Iterator[KafkaAdminClient]:
        """Connect as administrator."""
        settings = self.administrator
        assert settings.password_file is not None
        admin = KafkaAdminClient(
            bootstrap_servers=settings.bootstrap,
            security_protocol=settings.security_protocol,
            sasl_mechanism=settings.sasl_mechanism,
            sasl_plain_username=settings.username,
            sasl_plain_password=read_secret_file(settings.password_file).decode(),
        )
        try:
            yield admin
        finally:
            admin.close()

    def delete_topics(self) -> None:
        """Delete every topic that was made here."""
        with self.client() as admin:
            ours = [name for name in admin.list_topics() if name.startswith(tuple(self.prefixes))]
            if ours:
                admin.delete_topics(ours)


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[TestKafka]:
    folder = Path(tempfile.mkdtemp(prefix="secryn-test-kafka-"))
    try:
        stack = request.config.getoption("--stack")
        if stack == CONTAINERS:
            with kafka_container(request.getfixturevalue("engine"), folder) as settings:
                yield _elsewhere(folder, settings)
        elif stack == EXTERNAL:
            document = tomllib.loads(Path(request.config.getoption("--kafka-config")).read_text())
            found = _elsewhere(folder, KafkaSettings.model_validate(document["kafka"]))
            yield found
            found.delete_topics()
        else:
            with embedded_kafka(folder) as found:
                yield found
    finally:
        shutil.rmtree(folder)


def _elsewhere(folder: Path, administrator: KafkaSettings) -> TestKafka:
    """Take a broker that others share: every worker makes the same passwords for its users."""
    assert administrator.password_file is not None
    secret = read_secret_file(administrator.password_file).decode()
    passwords = {user: hashlib.sha256(f"{user} {secret}".encode()).hexdigest() for user in USERS}
    files = {user: folder / f"{user}.password" for user in USERS}
    for user, path in files.items():
        write_secret_file(path, passwords[user].encode())
    found = TestKafka(administrator, files)
    assert administrator.username is not None
    with found.client() as admin:
        # A stack has one mechanism for all of its users, its administrator among them.
        ensure_logins(admin, passwords | {administrator.username: secret})
    return replace(
        found, administrator=administrator.model_copy(update={"sasl_mechanism": MECHANISM})
    )


@contextmanager
def embedded_kafka(folder: Path) -> Iterator[TestKafka]:
    """Run a broker of ours, its files in ``folder``."""
    cache = default_cache()
    jars = ensure_jars(cache, print)
    java_cache = ensure_fast_start(cache, jars, print)
    passwords = {user: secrets.token_urlsafe(18) for user in ALL_USERS}
    files = {user: folder / f"{user}.password" for user in ALL_USERS}
    for user, path in files.items():
        write_secret_file(path, passwords[user].encode())
    port, controller_port = free_ports(2)
    server = KafkaServer(
        folder / "kafka", jars, port, controller_port, folder / "kafka.log", passwords,
        secrets.token_urlsafe(18), java_cache, fast_and_unsafe=True,
    )  # fmt: skip
    server.create()
    process = server.start(die_with_parent=True)
    mark = mark_of(process.pid)
    assert mark is not None
    try:
        server.wait_ready(process)
        administrator = KafkaSettings(
            bootstrap=server.bootstrap, username=ADMIN, password_file=files[ADMIN]
        )
        yield TestKafka(administrator, files)
    finally:
        stop_kafka(mark, grace_s=10)
        process.wait()
