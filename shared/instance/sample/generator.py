"""One sample instance as a stream of events, and copies of it without end.

Everything but key material follows from the seed: the structure, ids, times, names and the
plaintext of every secret. Memory is that of one copy, whatever the scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from shared.instance import events as ev
from shared.instance.sample import contents, crypto, people
from shared.instance.sample.source import Seal, Source
from shared.instance.writer import NewEvent

SETTING_VERSION: Final = 1
_PLAIN_SETTINGS: Final[dict[str, Any]] = {
    "general.title": "Secryn – Beispiel",
    "general.locale": "de-CH",
    "session.idle_minutes": 30,
    "session.absolute_hours": 12,
    "password.min_length": 12,
    "password.breached_check": True,
    "secret.max_versions": 30,
    "secret.default_labels": {"team": "platform"},
    "notify.recipients": ["ops@example.org", "größe@example.org"],
    "rotation.days": {"password": 90, "token": 30, "key": None},
    "ui.banner": None,
    "limits.rate": 12.5,
}
_SEALED_SETTINGS: Final = ("smtp.password", "oidc.client_secret", "webhook.signing_key")


def sample(seed: int, copies: int, seal: Seal, *, first_copy: int = 0) -> Iterator[NewEvent]:
    """Yield the events of ``copies`` copies, in the order in which they are to be written."""
    for copy in range(first_copy, first_copy + copies):
        yield from one_copy(Source(seed, copy, seal))


def example_path(seed: int) -> str:
    """Return PROJECT/VAULT/SECRET of the sample's first secret, which stays to the end."""
    known: dict[UUID, str] = {}
    for new in sample(seed, 1, lambda value, *_: value):
        if isinstance(new.event, ev.ProjectCreated):
            known[new.event.id] = new.event.name
        elif isinstance(new.event, ev.VaultCreated):
            known[new.event.id] = f"{known[new.event.project_id]}/{new.event.name}"
        elif isinstance(new.event, ev.SecretCreated):
            return f"{known[new.event.vault_id]}/{new.event.name}"
    raise ValueError("the sample has a secret")


def first_role(seed: int) -> UUID:
    """Return the id of the first thing that the sample of ``seed`` creates."""
    created = next(sample(seed, 1, lambda value, *_: value)).event
    if not isinstance(created, ev.RoleCreated):
        raise TypeError("the sample begins with a role")
    return created.id


def one_copy(source: Source) -> Iterator[NewEvent]:
    """Yield one instance's life: people, containers, contents, rights, then what changed."""
    who, what, keys = people.People(), contents.Contents(), crypto.Crypto()
    yield from people.arrive(source, who)
    yield from contents.containers(source, what)
    yield from settings(source)
    yield from crypto.bundle(source, what)
    yield from contents.create_secrets(source, what)
    yield from people.bind(source, who, _scopes(what), count=160)
    yield from crypto.keys(source, what, keys)
    yield from crypto.issued(source, what, keys)
    yield from contents.versions(source, what)
    yield from people.leave(source, who)
    yield from contents.endings(source, what)


def settings(source: Source) -> Iterator[NewEvent]:
    """Set plain and sealed settings, change one and remove one."""
    for name, value in _PLAIN_SETTINGS.items():
        yield source.draft(ev.SettingSet(name=name + source.tail, value=value))
    for name in _SEALED_SETTINGS:
        full = name + source.tail
        secret = source.rng.randbytes(24).hex().encode("ascii")
        sealed = source.seal(secret, "setting", full, SETTING_VERSION)
        yield source.draft(ev.SettingSet(name=full, sealed=sealed))
    yield source.draft(ev.SettingSet(name="session.idle_minutes" + source.tail, value=15))
    yield source.draft(ev.SettingRemoved(name="ui.banner" + source.tail))


def _scopes(what: contents.Contents) -> dict[ev.ScopeKind, list[Any]]:
    return {
        "instance": [],
        "project": what.projects,
        "vault": what.vaults,
        "secret": [secret.id for secret in what.secrets],
    }
