"""A running stack with a filled instance, and everything that a test does to it.

    def test_it(live):
        backup, key = live.backup()              # made, proven, its key viewed
        live.restore(backup, key)                # run to its end; the document of the restore
        live.write(20)                           # events on the instance's log
        live.digest(), live.state()              # what is there; what must not have changed
        live.messages(topic)                     # every CloudEvent on a topic
        live.command(topic, type, data)          # a command over Kafka, signed by the operator

One filled stack for all modules of a worker: what a test needs it makes itself, and it leaves the
instance whole, which is checked when its module ends. Those modules come first, and the stack goes
with the last of them: it takes an eighth of a core while nobody uses it. A module that cannot
promise to leave it whole asks for ``own_live``, a stack of its own.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from cli.connect import Connected, connected
from cli.platform import Platform, platform
from deploy.embedded.folder import open_state
from deploy.embedded.keys import ISSUER_KEY, OPERATOR
from restore_service.events import ENDED, WAITING
from shared.errors import EpochChanged
from shared.instance import events as ie
from shared.instance.position import LogPosition, read_position
from shared.instance.sample.live import LiveWriter
from shared.instance.stored import Written
from shared.kafka import Kafka
from shared.kafka.admin import LogAdmin
from shared.messages import CloudEvent, SigningKey, sign
from shared.messages.topics import INSTANCE_EVENTS
from tests.documents import plain
from tests.plugins.given import Prepare, on_its_own_servers
from tests.plugins.instance import WAIT_S, eventually
from tests.plugins.stack import StackUnderTest

Json = dict[str, Any]

_MODULES = pytest.StashKey[set[Path]]()
_END = pytest.StashKey[ExitStack]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the modules that share a stack first."""
    modules = {item.path for item in items if "filled_stack" in _fixtures(item)}
    config.stash[_MODULES] = modules
    items.sort(key=lambda item: item.path not in modules)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Take the shared stack down when the first module begins that does not share it."""
    if _END in item.config.stash and item.path not in item.config.stash[_MODULES]:
        item.config.stash[_END].close()


def _fixtures(item: pytest.Item) -> Sequence[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else ()


@dataclass
class Live:
    """One stack and its clients."""

    stack: StackUnderTest
    services: Connected
    platform: Platform

    @property
    def instance_id(self) -> str:
        return self.services.instance_id

    # The instance

    def write(self, events: int, seed: int = 1) -> int:
        """Write about ``events`` events, wait until they are stored; return how many it were."""
        return self.write_for(events / 200, 200, seed)

    def write_for(self, seconds: float, rate: int, seed: int = 1) -> int:
        writer = LiveWriter(self.platform.writer, rate=rate, seconds=seconds, seed=seed)
        summary = writer.run()
        writer.wait_until_stored(20)
        return summary.events

    def add_project(self, name: str) -> UUID:
        """Append one project and wait for it."""
        project = uuid4()
        written = self.append(ie.ProjectCreated(id=project, name=name))
        self.platform.writer.wait_until_stored(written, 20)
        return project

    def append(self, event: ie.InstanceEvent, actor: str | None = None) -> Written:
        """Append one event, behind a fence that is being lowered; return where it stands."""
        writer = self.platform.writer
        try:
            return writer.append(event, actor=actor, wait_for_fence_s=20)
        except EpochChanged:
            # A restore of this test came between: the writer knows the new epoch now.
            return writer.append(event, actor=actor)

    def projects(self) -> set[str]:
        with self.admin() as conn:
            return {row[0] for row in conn.execute("SELECT name FROM instance.projects")}

    def digest(self) -> str:
        return str(self.services.backups.digest()["digest"])

    def admin(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.stack.postgres_admin(), autocommit=True)

    def position(self) -> LogPosition:
        with self.admin() as conn:
            return read_position(conn)

    def schemas(self) -> set[str]:
        with self.admin() as conn:
            rows = conn.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'instance%'")
            return {row[0] for row in rows}

    def state(self) -> tuple[str, set[str], LogPosition]:
        """Return what a refused request leaves as it was, once the store is at the log's end."""
        kafka = self.kafka()
        with kafka.admin() as admin:
            # The mark of a commit lands a moment after what was committed.
            name = kafka.topic(INSTANCE_EVENTS)
            eventually(
                lambda: self.position().position == admin.last_stable_offset(name),
                "the store is at the end of the log",
            )
        # What earlier restores replaced is dropped at its own time.
        schemas = {name for name in self.schemas() if not name.startswith("instance_before_")}
        return self.digest(), schemas, self.position()

    # Backups and restores

    def backup(self) -> tuple[Json, str]:
        """Return a created backup and the text of its key file."""
        asked = self.services.backups.create("a test")
        backup = self.services.backups.wait(asked["backup_id"])
        assert backup["state"] == "created", backup["error"]
        return plain(backup), self.services.backups.view_key(backup["backup_id"])

    def archive(self, backup: Json, folder: Path) -> Path:
        """Download a backup's file."""
        target = folder / f"{backup['backup_id']}.age"
        self.services.backups.download(backup["backup_id"], target)
        return target

    def start(self, key: str, **named: Any) -> Json:
        """Ask for a restore of this instance."""
        named.setdefault("target_instance_id", self.instance_id)
        return plain(self.services.restores.start(key_file_text=key, reason="a test", **named))

    def restore(self, backup: Json, key: str) -> Json:
        """Restore a stored backup; return how it ended."""
        asked = self.start(key, backup_id=backup["backup_id"])
        return plain(self.services.restores.wait(asked["restore_id"]))

    def restore_file(self, file: Path, key: str, **named: Any) -> Json:
        """Upload and restore a file; return how it ended."""
        asked = self.start(key, upload=self.services.restores.upload(file), **named)
        return plain(self.services.restores.wait(asked["restore_id"]))

    # The log

    def kafka(self, user: str = "admin") -> Kafka:
        return Kafka(self.stack.kafka(user), client_id="test")

    def messages(self, topic: str, start: int | None = None) -> list[CloudEvent]:
        """Return every readable CloudEvent on a topic, in order; those from ``start`` on."""
        kafka = self.kafka()
        name = kafka.topic(topic)
        with kafka.admin() as admin, kafka.log_reader(name) as reader:
            first = admin.beginning_offset(name) if start is None else start
            batches = reader.between(first, stable_end(admin, name))
            return [CloudEvent.from_kafka(r) for batch in batches for r in batch.records]

    def events_about(self, topic: str, kind: str, identity: object) -> list[Json]:
        """Return the bodies of the events of one type that name ``identity``, once there is one."""
        kafka, found = self.kafka(), list[Json]()
        name, deadline = kafka.topic(topic), time.monotonic() + WAIT_S
        with kafka.admin() as admin, kafka.log_reader(name) as reader:
            position = admin.beginning_offset(name)
            while not found:
                assert time.monotonic() < deadline, f"no {kind} about {identity}"
                # What was read is not read again while it is waited for.
                end = stable_end(admin, name)
                for batch in reader.between(position, end):
                    events = [CloudEvent.from_kafka(record) for record in batch.records]
                    bodies = [json.loads(event.data) for event in events if event.type == kind]
                    found += [body for body in bodies if str(identity) in map(str, body.values())]
                position = end
                time.sleep(0 if found else 0.1)
        return found

    def operator(self) -> SigningKey:
        return SigningKey.load(open_state(self.stack.state).key(ISSUER_KEY))

    def command(
        self,
        topic: str,
        kind: str,
        data: Json,
        *,
        key: SigningKey | None = None,
        issuer: str = OPERATOR,
    ) -> CloudEvent:
        """Send a command, signed by the operator or by ``key``; return it."""
        event = CloudEvent(type=kind, source="/test", data=json.dumps(data).encode())
        signed = sign(event, key or self.operator(), issuer)
        self.send(topic, signed)
        return signed

    def send(self, topic: str, event: CloudEvent, user: str = "platform") -> None:
        kafka = self.kafka(user)
        with kafka.producer() as producer:
            producer.send_sync(kafka.topic(topic), event.to_kafka())


def stable_end(admin: LogAdmin, topic: str) -> int:
    """Return the end of a topic once whatever is before it is committed or aborted.

    The mark of a commit lands a moment after the commit was answered.
    """
    end = admin.high_watermark(topic)
    eventually(lambda: admin.last_stable_offset(topic) >= end, "every transaction has its mark")
    return end


@pytest.fixture(scope="session")
def filled_stack(
    request: pytest.FixtureRequest, servers_of_stacks: Prepare
) -> Iterator[StackUnderTest]:
    """A stack with the sample instance, for every module that leaves it whole."""
    with ExitStack() as end:
        request.config.stash[_END] = end
        stack = end.enter_context(stack_of_its_own(prepare=servers_of_stacks))
        stack.secryn("sample", "load")
        yield stack


@pytest.fixture(scope="module")
def live(filled_stack: StackUnderTest) -> Iterator[Live]:
    """The shared stack, with clients and a writer of the module's own."""
    with clients_of(filled_stack) as found:
        yield found
        assert_whole(found)


def assert_whole(live: Live) -> None:
    """Fail the module that left something behind, and not the one that comes next."""
    live.stack.wait_healthy()
    eventually(lambda: not live.position().fenced, "no fence is open")
    open_ones = [
        found
        for found in live.services.restores.list()["restores"]
        if found["state"] not in ENDED | WAITING
    ]
    assert not open_ones


@pytest.fixture(scope="module")
def own_live(servers_of_stacks: Prepare) -> Iterator[Live]:
    """A stack with the sample instance that no other module sees."""
    with live_stack(prepare=servers_of_stacks) as found:
        found.stack.secryn("sample", "load")
        yield found


@pytest.fixture(scope="module")
def empty_live(servers_of_stacks: Prepare) -> Iterator[Live]:
    """A stack with an empty instance."""
    with live_stack(prepare=servers_of_stacks) as found:
        yield found


@contextmanager
def live_stack(
    *arguments: str,
    prepare: Prepare = on_its_own_servers,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Live]:
    """Start a stack (``secryn up ARGUMENTS``) with an empty instance; take it down at the end."""
    with (
        stack_of_its_own(*arguments, prepare=prepare, environment=environment) as stack,
        clients_of(stack) as found,
    ):
        yield found


@contextmanager
def stack_of_its_own(
    *arguments: str,
    prepare: Prepare = on_its_own_servers,
    environment: Mapping[str, str] | None = None,
) -> Iterator[StackUnderTest]:
    """Start a stack, and take it down at the end."""
    folder = Path(tempfile.mkdtemp(prefix="secryn live "))
    stack = StackUnderTest(folder / "the state", environment or {})
    try:
        prepare(stack)
        stack.up(*arguments)
        yield stack
    finally:
        if (stack.state / "place.toml").exists():
            stack.down()
        shutil.rmtree(folder)


@contextmanager
def clients_of(stack: StackUnderTest) -> Iterator[Live]:
    """Open the clients of a running stack."""
    with connected(stack.state) as services, platform(stack.state) as parts:
        yield Live(stack, services, parts)
