"""Projects, vaults and the secrets in them, each with its versions and its later life."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from shared.instance import events as ev
from shared.instance.sample import names, values
from shared.instance.sample.source import Source
from shared.instance.writer import NewEvent

PROJECTS: Final = 6
SECRETS: Final = 600
MAX_VERSIONS: Final = 30
# Versions beyond the first: few have many, and some have all thirty.
_MEAN_FURTHER_VERSIONS: Final = 3.2


@dataclass
class Secret:
    """A secret while its versions are still being written."""

    id: UUID
    vault: UUID
    name: str
    kind: str
    version: int
    last_version: int
    owner: str


@dataclass
class Contents:
    """What exists by the end of the first part."""

    projects: list[UUID] = field(default_factory=list)
    vaults: list[UUID] = field(default_factory=list)
    secrets: list[Secret] = field(default_factory=list)


def containers(source: Source, contents: Contents) -> Iterator[NewEvent]:
    """Create projects and vaults, some restricted; rename one, delete one of each."""
    for name, description in names.PROJECTS[:PROJECTS]:
        project = source.uuid()
        contents.projects.append(project)
        yield source.draft(
            ev.ProjectCreated(id=project, name=name + source.tail, description=description)
        )
        for vault_name in names.VAULTS:
            vault = source.uuid()
            contents.vaults.append(vault)
            yield source.draft(
                ev.VaultCreated(
                    id=vault,
                    project_id=project,
                    name=vault_name,
                    restricted=vault_name in names.RESTRICTED_VAULTS,
                )
            )
    yield from _retire_containers(source, contents)


def _retire_containers(source: Source, contents: Contents) -> Iterator[NewEvent]:
    abandoned = source.uuid()
    yield source.draft(
        ev.ProjectCreated(id=abandoned, name="abandoned" + source.tail, description="Not started")
    )
    yield source.draft(
        ev.ProjectUpdated(
            id=contents.projects[0],
            name=names.PROJECTS[0][0] + source.tail,
            description=names.PROJECTS[0][1] + ", since the merger also direct debits",
        )
    )
    yield source.draft(ev.ProjectDeleted(id=abandoned))
    closed = source.uuid()
    yield source.draft(
        ev.VaultCreated(id=closed, project_id=contents.projects[-1], name="old", restricted=False)
    )
    yield source.draft(
        ev.VaultUpdated(id=closed, project_id=contents.projects[-1], name="closed", restricted=True)
    )
    yield source.draft(ev.VaultDeleted(id=closed))


def create_secrets(source: Source, contents: Contents) -> Iterator[NewEvent]:
    """Create the secrets, each with its first version."""
    for number in range(SECRETS):
        kind = values.draw_kind(source.rng)
        further = min(MAX_VERSIONS - 1, int(source.rng.expovariate(1 / _MEAN_FURTHER_VERSIONS)))
        secret = Secret(
            id=source.uuid(),
            vault=source.rng.choice(contents.vaults),
            name=names.secret_name(source.rng, kind, number),
            kind=kind,
            version=1,
            last_version=MAX_VERSIONS if number % 100 == 0 else 1 + further,
            owner=names.person(source.rng.randrange(60), source.tail).username,
        )
        contents.secrets.append(secret)
        value = values.KINDS[kind](source.rng)
        event = ev.SecretCreated(
            id=secret.id,
            vault_id=secret.vault,
            name=secret.name,
            kind=kind,
            labels=labels(source),
            sealed=source.seal(value, "secret", secret.id, 1),
            size_bytes=len(value),
        )
        yield source.draft(event, secret.owner)


def labels(source: Source) -> dict[str, str]:
    """Return the labels of a secret: mostly a team, sometimes a tier."""
    found = {"team": source.rng.choice(names.TEAMS)} if source.chance(0.7) else {}
    return found | ({"tier": source.rng.choice(names.TIERS)} if source.chance(0.3) else {})


def versions(source: Source, contents: Contents) -> Iterator[NewEvent]:
    """Rotate the secrets in turn, as it happens in life, until each has its versions."""
    waiting = [secret for secret in contents.secrets if secret.version < secret.last_version]
    while waiting:
        index = source.rng.randrange(len(waiting))
        secret = waiting[index]
        secret.version += 1
        if secret.version == secret.last_version:
            waiting[index] = waiting[-1]
            waiting.pop()
        value = values.KINDS[secret.kind](source.rng)
        event = ev.SecretVersionAdded(
            id=secret.id,
            version=secret.version,
            sealed=source.seal(value, "secret", secret.id, secret.version),
            size_bytes=len(value),
        )
        yield source.draft(event, secret.owner)


def endings(source: Source, contents: Contents) -> Iterator[NewEvent]:
    """Relabel and rename some secrets, delete some, bring a few back, purge a few for good.

    The first one is left as it is: it is the example that a person opens.
    """
    secrets = contents.secrets[1:]
    for secret in source.some(secrets, 0.08):
        yield source.draft(
            ev.SecretUpdated(
                id=secret.id,
                vault_id=secret.vault,
                name=secret.name + ("-v2" if source.chance(0.3) else ""),
                labels=labels(source),
            ),
            secret.owner,
        )
    deleted = source.some(secrets, 0.06)
    for secret in deleted:
        yield source.draft(ev.SecretDeleted(id=secret.id), secret.owner)
    third = len(deleted) // 3
    for secret in deleted[:third]:
        yield source.draft(ev.SecretUndeleted(id=secret.id), secret.owner)
    for secret in deleted[third : 2 * third]:
        yield source.draft(ev.SecretPurged(id=secret.id))
