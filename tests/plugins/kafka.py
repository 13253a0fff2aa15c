"""A real Kafka for the tests: one broker a session, started when a test first asks for it.

    def test_messages(kafka):
        kafka.bootstrap                          # 127.0.0.1:port, SASL_PLAINTEXT, SCRAM-SHA-256
        settings = kafka.settings()              # KafkaSettings of `admin`, who may do all
        kafka.settings("backup")                 # ... of another user: projector, backup,
                                                 #     restore, platform
        kafka.fresh_prefix()                     # a topic prefix of your own, "t3f9c2a."
        kafka.settings(prefix=...)               # ... in the settings

    kafka.grant(prefix)                      # the rights that a stack's users have

Users other than admin have no rights until a test gives them some. Topics are never shared:
take a prefix of your own. The broker does not flush (it need not survive).
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

from deploy.embedded.fast_start import ensure_fast_start
from deploy.embedded.jars import default_cache, ensure_jars
from deploy.embedded.kafka import KafkaServer, stop_kafka
from deploy.embedded.process import free_ports, mark_of
from deploy.embedded.rights import apply_rights
from deploy.embedded.singlenode import MECHANISM
from deploy.embedded.users import ADMIN, ALL_USERS
from shared.secretfiles import write_secret_file
from shared.settings import KafkaSettings


@dataclass(frozen=True)
class TestKafka:
    """The session's broker."""

    __test__ = False

    server: KafkaServer
    password_files: dict[str, Path]

    @property
    def bootstrap(self) -> str:
        return self.server.bootstrap

    def fresh_prefix(self) -> str:
        """Return a topic prefix that no other test has."""
        return f"t{secrets.token_hex(5)}."

    def settings(self, user: str = ADMIN, prefix: str | None = None) -> KafkaSettings:
        """Return the settings of one user, with a fresh prefix when none is given."""
        return KafkaSettings(
            bootstrap=self.bootstrap,
            username=user,
            password_file=self.password_files[user],
            topic_prefix=prefix if prefix is not None else self.fresh_prefix(),
        )

    def grant(self, prefix: str) -> None:
        """Give every user the rights that it has in a stack, on the topics of ``prefix``."""
        admin = KafkaAdminClient(
            bootstrap_servers=self.bootstrap,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism=MECHANISM,
            sasl_plain_username=ADMIN,
            sasl_plain_password=self.password_files[ADMIN].read_text(),
        )
        try:
            apply_rights(admin, prefix)
        finally:
            admin.close()


@pytest.fixture(scope="session")
def kafka() -> Iterator[TestKafka]:
    cache = default_cache()
    jars = ensure_jars(cache, print)
    java_cache = ensure_fast_start(cache, jars, print)
    folder = Path(tempfile.mkdtemp(prefix="secryn-test-kafka-"))
    try:
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
            yield TestKafka(server, files)
        finally:
            stop_kafka(mark, grace_s=10)
            process.wait()
    finally:
        shutil.rmtree(folder)
