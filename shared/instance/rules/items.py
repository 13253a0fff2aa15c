"""What lies in a vault: secrets, keys and certificates, each with versions."""

from __future__ import annotations

from uuid import UUID

from shared.instance import events as ev
from shared.instance.rules.base import (
    Contradiction,
    LoggedEvent,
    absent,
    alive,
    by_id,
    folds,
    free,
    made,
    next_version,
    owned,
    present,
)
from shared.instance.workingset import Needs, Row, WorkingSet

Created = ev.SecretCreated | ev.KeyCreated | ev.CertificateCreated


def _enter(working: WorkingSet, table: str, event: Created, logged: LoggedEvent, more: Row) -> None:
    """Put a new item at version 1 into its vault."""
    absent(working, table, event.id)
    alive(working, "vaults", event.vault_id)
    free(working, table, event.id, event.vault_id, event.name)
    row = {"id": event.id, "vault_id": event.vault_id, "name": event.name, "current_version": 1}
    working.put(table, row | more | owned(logged))


def _declare_in_vault(table: str, event: Created | ev.SecretUpdated, needs: Needs) -> None:
    needs.keys[table].add((event.id,))
    needs.keys["vaults"].add((event.vault_id,))
    needs.names[table].add((event.vault_id, event.name))


def _advance(working: WorkingSet, table: str, key: UUID, version: int) -> None:
    row = alive(working, table, key)
    next_version(row, version)
    working.put(table, row | {"current_version": version})


def _needs_secret(event: ev.SecretCreated | ev.SecretUpdated, needs: Needs) -> None:
    _declare_in_vault("secrets", event, needs)


def _secret_version(
    event: ev.SecretCreated | ev.SecretVersionAdded, version: int, logged: LoggedEvent
) -> Row:
    row = {
        "secret_id": event.id,
        "version": version,
        "sealed": event.sealed,
        "size_bytes": event.size_bytes,
    }
    return row | made(logged)


@folds(ev.SecretCreated, _needs_secret)
def _secret_created(working: WorkingSet, event: ev.SecretCreated, logged: LoggedEvent) -> None:
    more = {"kind": event.kind, "labels": event.labels}
    _enter(working, "secrets", event, logged, more)
    working.put("secret_versions", _secret_version(event, 1, logged))


@folds(ev.SecretVersionAdded, by_id("secrets"))
def _secret_version_added(
    working: WorkingSet, event: ev.SecretVersionAdded, logged: LoggedEvent
) -> None:
    _advance(working, "secrets", event.id, event.version)
    working.put("secret_versions", _secret_version(event, event.version, logged))


@folds(ev.SecretUpdated, _needs_secret)
def _secret_updated(working: WorkingSet, event: ev.SecretUpdated, _: LoggedEvent) -> None:
    row = alive(working, "secrets", event.id)
    alive(working, "vaults", event.vault_id)
    free(working, "secrets", event.id, event.vault_id, event.name)
    changed = {"vault_id": event.vault_id, "name": event.name, "labels": event.labels}
    working.put("secrets", row | changed)


@folds(ev.SecretUndeleted, by_id("secrets"))
def _secret_undeleted(working: WorkingSet, event: ev.SecretUndeleted, _: LoggedEvent) -> None:
    working.put("secrets", _deleted_secret(working, event) | {"deleted_at": None})


@folds(ev.SecretPurged, by_id("secrets"))
def _secret_purged(working: WorkingSet, event: ev.SecretPurged, _: LoggedEvent) -> None:
    _deleted_secret(working, event)
    working.delete_children("secret_versions", "secret_id", event.id)
    working.delete("secrets", event.id)


def _deleted_secret(working: WorkingSet, event: ev.SecretUndeleted | ev.SecretPurged) -> Row:
    row = present(working, "secrets", event.id)
    if row["deleted_at"] is None:
        raise Contradiction("not_deleted", f"secrets {event.id} is not deleted")
    return row


def _key_version(event: ev.KeyCreated | ev.KeyRotated, version: int, logged: LoggedEvent) -> Row:
    row = {
        "key_id": event.id,
        "version": version,
        "public_key": event.public_key,
        "sealed_private": event.sealed_private,
    }
    return row | made(logged)


@folds(ev.KeyCreated, lambda event, needs: _declare_in_vault("keys", event, needs))
def _key_created(working: WorkingSet, event: ev.KeyCreated, logged: LoggedEvent) -> None:
    _enter(working, "keys", event, logged, {"algorithm": event.algorithm})
    working.put("key_versions", _key_version(event, 1, logged))


@folds(ev.KeyRotated, by_id("keys"))
def _key_rotated(working: WorkingSet, event: ev.KeyRotated, logged: LoggedEvent) -> None:
    _advance(working, "keys", event.id, event.version)
    working.put("key_versions", _key_version(event, event.version, logged))


def _certificate_version(event: ev.CertificateContent, version: int, logged: LoggedEvent) -> Row:
    content = event.model_dump(
        include={"der", "subject", "issuer", "serial", "not_before", "not_after", "key_id"}
    )
    row = {"certificate_id": event.id, "version": version, "revoked_at": None}
    return row | content | made(logged)


@folds(ev.CertificateCreated, lambda event, needs: _declare_in_vault("certificates", event, needs))
def _certificate_created(
    working: WorkingSet, event: ev.CertificateCreated, logged: LoggedEvent
) -> None:
    _enter(working, "certificates", event, logged, {})
    working.put("certificate_versions", _certificate_version(event, 1, logged))


@folds(ev.CertificateRenewed, by_id("certificates"))
def _certificate_renewed(
    working: WorkingSet, event: ev.CertificateRenewed, logged: LoggedEvent
) -> None:
    _advance(working, "certificates", event.id, event.version)
    working.put("certificate_versions", _certificate_version(event, event.version, logged))


def _needs_certificate_version(event: ev.CertificateRevoked, needs: Needs) -> None:
    needs.keys["certificate_versions"].add((event.id, event.version))


@folds(ev.CertificateRevoked, _needs_certificate_version)
def _certificate_revoked(
    working: WorkingSet, event: ev.CertificateRevoked, logged: LoggedEvent
) -> None:
    row = present(working, "certificate_versions", event.id, event.version)
    if row["revoked_at"] is not None:
        raise Contradiction("revoked", f"version {event.version} of {event.id} is revoked already")
    working.put("certificate_versions", row | {"revoked_at": logged.time})
