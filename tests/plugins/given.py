"""Stacks on the servers that ``--stack`` names, instead of their own.

    def test_it(given_stack):
        stack = given_stack()                    # as `new_stack`, on those servers

The stacks of `live`, `own_live`, `empty_live` and `given_stack` take their Kafka and PostgreSQL from
there: a database with the roles of a place, a topic prefix, users with the rights that a stack gives
them. The others (`new_stack`, `running_stack`, crash points) are about the embedded one, and run it
whatever ``--stack`` says.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from deploy.embedded.database import ACCESS, BACKUP, PLATFORM, PROJECTOR, RESTORE
from deploy.embedded.place import OwnKafka, OwnKafkaUser, OwnPostgres, Place, save_place
from deploy.embedded.users import USERS
from tests.plugins.containers import EMBEDDED
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres
from tests.plugins.stack import StackUnderTest

# What is done to a stack's state folder before its first start.
Prepare = Callable[[StackUnderTest], None]


def on_its_own_servers(_stack: StackUnderTest) -> None:
    """Leave it to the stack to run both servers."""


def place_on(stack: StackUnderTest, kafka: TestKafka, postgres: TestPostgres) -> None:
    """Make the place of ``stack`` one on these servers."""
    database = postgres.fresh_place()
    urls = {name: database.dsn(role) for name, role in _ROLES.items()}
    prefix = kafka.fresh_prefix()
    kafka.grant(prefix)
    users = {
        user: OwnKafkaUser(username=user, password_file=kafka.password_files[user])
        for user in USERS
    }
    administrator = kafka.settings(prefix=prefix).model_dump()
    place = Place(
        instance_id=uuid4(),
        postgres=OwnPostgres(url=urls["platform_url"], **urls),
        kafka=OwnKafka.model_validate(administrator | {"users": users}),
        settings={name: {"access": {"owner_role": ACCESS}} for name in ("backup", "restore")},
    )
    stack.state.mkdir(mode=0o700, parents=True)
    save_place(stack.state / "place.toml", place)
    stack.superuser = database.superuser


_ROLES = {
    "projector_url": PROJECTOR, "backup_url": BACKUP, "restore_url": RESTORE,
    "platform_url": PLATFORM,
}  # fmt: skip


@pytest.fixture(scope="session")
def servers_of_stacks(request: pytest.FixtureRequest) -> Prepare:
    """Give the stacks of `live` their servers."""
    if request.config.getoption("--stack") == EMBEDDED:
        return on_its_own_servers
    kafka: TestKafka = request.getfixturevalue("kafka")
    postgres: TestPostgres = request.getfixturevalue("postgres")
    return lambda stack: place_on(stack, kafka, postgres)


@pytest.fixture
def given_stack(
    new_stack: Callable[..., StackUnderTest], servers_of_stacks: Prepare
) -> Callable[..., StackUnderTest]:
    """Make stacks that are not started yet, on the servers that ``--stack`` names."""

    def make(**environment: str) -> StackUnderTest:
        stack = new_stack(**environment)
        servers_of_stacks(stack)
        return stack

    return make
