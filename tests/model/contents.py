"""Projects and vaults, and what lies in them.

All are deleted by a mark: the name stays taken, contents stay, and nothing can be written there.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from shared.instance import events as ev
from tests.model.rulebook import RULES, Logged, Rule, made, owned, rule
from tests.model.state import Refused, Row, State

MARKED = {
    ev.ProjectDeleted: "projects",
    ev.VaultDeleted: "vaults",
    ev.SecretDeleted: "secrets",
    ev.KeyDeleted: "keys",
    ev.CertificateDeleted: "certificates",
}


def _marks(table: str) -> Rule:
    def mark(state: State, event: Any, logged: Logged) -> None:
        state.living(table, event.id)["deleted_at"] = logged.time

    return mark


for _cls, _table in MARKED.items():
    RULES[_cls] = _marks(_table)


@rule(ev.ProjectCreated)
def project_created(state: State, event: ev.ProjectCreated, logged: Logged) -> None:
    state.new("projects", event.id)
    state.name_free("projects", event.id, name=event.name)
    state.put(
        "projects", id=event.id, name=event.name, description=event.description, **owned(logged)
    )


@rule(ev.ProjectUpdated)
def project_updated(state: State, event: ev.ProjectUpdated, logged: Logged) -> None:
    row = state.living("projects", event.id)
    state.name_free("projects", event.id, name=event.name)
    row.update(name=event.name, description=event.description)


def _vault(event: ev.VaultCreated | ev.VaultUpdated) -> Row:
    names = ("id", "project_id", "name", "restricted")
    return {name: getattr(event, name) for name in names}


@rule(ev.VaultCreated)
def vault_created(state: State, event: ev.VaultCreated, logged: Logged) -> None:
    state.new("vaults", event.id)
    state.living("projects", event.project_id)
    state.name_free("vaults", event.id, project_id=event.project_id, name=event.name)
    state.put("vaults", **_vault(event), **owned(logged))


@rule(ev.VaultUpdated)
def vault_updated(state: State, event: ev.VaultUpdated, logged: Logged) -> None:
    row = state.living("vaults", event.id)
    state.living("projects", event.project_id)
    state.name_free("vaults", event.id, project_id=event.project_id, name=event.name)
    row.update(_vault(event))


def _enter(
    state: State,
    table: str,
    event: ev.SecretCreated | ev.KeyCreated | ev.CertificateCreated,
    logged: Logged,
    **more: Any,
) -> None:
    """Put something new into a vault; only the vault has to live, not its project."""
    state.new(table, event.id)
    state.living("vaults", event.vault_id)
    state.name_free(table, event.id, vault_id=event.vault_id, name=event.name)
    row = {"id": event.id, "vault_id": event.vault_id, "name": event.name, "current_version": 1}
    state.put(table, **row, **more, **owned(logged))


def _advance(state: State, table: str, key: UUID, version: int) -> None:
    """Make ``version`` the current one: it is the next, or the event is refused."""
    row = state.living(table, key)
    if version != row["current_version"] + 1:
        raise Refused("wrong_version")
    row["current_version"] = version


def _secret_version(
    state: State, event: ev.SecretCreated | ev.SecretVersionAdded, version: int, logged: Logged
) -> None:
    state.put(
        "secret_versions",
        secret_id=event.id,
        version=version,
        sealed=event.sealed,
        size_bytes=event.size_bytes,
        **made(logged),
    )


@rule(ev.SecretCreated)
def secret_created(state: State, event: ev.SecretCreated, logged: Logged) -> None:
    _enter(state, "secrets", event, logged, kind=event.kind, labels=dict(event.labels))
    _secret_version(state, event, 1, logged)


@rule(ev.SecretVersionAdded)
def secret_version_added(state: State, event: ev.SecretVersionAdded, logged: Logged) -> None:
    _advance(state, "secrets", event.id, event.version)
    _secret_version(state, event, event.version, logged)


@rule(ev.SecretUpdated)
def secret_updated(state: State, event: ev.SecretUpdated, logged: Logged) -> None:
    row = state.living("secrets", event.id)
    state.living("vaults", event.vault_id)
    state.name_free("secrets", event.id, vault_id=event.vault_id, name=event.name)
    row.update(vault_id=event.vault_id, name=event.name, labels=dict(event.labels))


def _deleted(state: State, key: UUID) -> Row:
    row = state.there("secrets", key)
    if row["deleted_at"] is None:
        raise Refused("not_deleted")
    return row


@rule(ev.SecretUndeleted)
def secret_undeleted(state: State, event: ev.SecretUndeleted, logged: Logged) -> None:
    _deleted(state, event.id)["deleted_at"] = None


@rule(ev.SecretPurged)
def secret_purged(state: State, event: ev.SecretPurged, logged: Logged) -> None:
    _deleted(state, event.id)
    state.drop("secret_versions", secret_id=event.id)
    state.drop("secrets", id=event.id)


def _key_version(
    state: State, event: ev.KeyCreated | ev.KeyRotated, version: int, logged: Logged
) -> None:
    state.put(
        "key_versions",
        key_id=event.id,
        version=version,
        public_key=event.public_key,
        sealed_private=event.sealed_private,
        **made(logged),
    )


@rule(ev.KeyCreated)
def key_created(state: State, event: ev.KeyCreated, logged: Logged) -> None:
    _enter(state, "keys", event, logged, algorithm=event.algorithm)
    _key_version(state, event, 1, logged)


@rule(ev.KeyRotated)
def key_rotated(state: State, event: ev.KeyRotated, logged: Logged) -> None:
    _advance(state, "keys", event.id, event.version)
    _key_version(state, event, event.version, logged)


def _certificate_version(
    state: State, event: ev.CertificateContent, version: int, logged: Logged
) -> None:
    names = ("der", "subject", "issuer", "serial", "not_before", "not_after", "key_id")
    content = {name: getattr(event, name) for name in names}
    state.put(
        "certificate_versions",
        certificate_id=event.id,
        version=version,
        revoked_at=None,
        **content,
        **made(logged),
    )


@rule(ev.CertificateCreated)
def certificate_created(state: State, event: ev.CertificateCreated, logged: Logged) -> None:
    _enter(state, "certificates", event, logged)
    _certificate_version(state, event, 1, logged)


@rule(ev.CertificateRenewed)
def certificate_renewed(state: State, event: ev.CertificateRenewed, logged: Logged) -> None:
    _advance(state, "certificates", event.id, event.version)
    _certificate_version(state, event, event.version, logged)


@rule(ev.CertificateRevoked)
def certificate_revoked(state: State, event: ev.CertificateRevoked, logged: Logged) -> None:
    row = state.there("certificate_versions", event.id, event.version)
    if row["revoked_at"] is not None:
        raise Refused("revoked")
    row["revoked_at"] = logged.time
