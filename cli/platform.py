"""The instance as a platform service of this stack sees it: reads the store, writes to the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from cli.remote import needs_state
from deploy.embedded.folder import open_state
from shared.database import Pool, open_pool
from shared.instance.keyring import RootKey
from shared.instance.writer import InstanceWriter
from shared.kafka import Kafka
from shared.settings import KafkaSettings, PostgresSettings, Section, load_settings

PROCESS = "platform"
ACTOR = "sample"


class PlatformPlace(Section):
    """What a platform service needs of the place: the key that wraps the data keys."""

    root_key_file: Path = Field(description="32 random bytes in hex, mode 0600.")


class PlatformSettings(Section):
    """config/platform.toml of a state folder: the platform's own credentials."""

    postgres: PostgresSettings
    kafka: KafkaSettings
    place: PlatformPlace


@dataclass(frozen=True)
class Platform:
    """The opened parts."""

    pool: Pool
    root_key: RootKey
    writer: InstanceWriter


@contextmanager
def platform(state: Path) -> Iterator[Platform]:
    """Open the store and the log of the stack in ``state`` with the platform's credentials.

    Raises StackNotRunning, UnknownSetting, PostgresUnavailable.
    """
    needs_state("it reads the store and writes to the log, and")
    settings = load_settings(PlatformSettings, open_state(state).config(PROCESS), environ={})
    root_key = RootKey.load(settings.place.root_key_file)
    pool = open_pool(settings.postgres, "secryn platform")
    try:
        kafka = Kafka(settings.kafka, client_id="secryn-platform")
        with InstanceWriter(kafka, pool, root_key, source="cli", actor=ACTOR) as writer:
            yield Platform(pool, root_key, writer)
    finally:
        pool.close()
