"""Projects and vaults."""

from __future__ import annotations

from shared.instance import events as ev
from shared.instance.rules.base import (
    RULES,
    LoggedEvent,
    absent,
    alive,
    by_id,
    folds,
    free,
    mark_deleted,
    owned,
)
from shared.instance.workingset import Needs, WorkingSet

for _cls, _table in (
    (ev.ProjectDeleted, "projects"),
    (ev.VaultDeleted, "vaults"),
    (ev.SecretDeleted, "secrets"),
    (ev.KeyDeleted, "keys"),
    (ev.CertificateDeleted, "certificates"),
):
    RULES[_cls] = (by_id(_table), mark_deleted(_table))


def _needs_project(event: ev.ProjectCreated | ev.ProjectUpdated, needs: Needs) -> None:
    needs.keys["projects"].add((event.id,))
    needs.names["projects"].add((event.name,))


@folds(ev.ProjectCreated, _needs_project)
def _project_created(working: WorkingSet, event: ev.ProjectCreated, logged: LoggedEvent) -> None:
    absent(working, "projects", event.id)
    free(working, "projects", event.id, event.name)
    row = {"id": event.id, "name": event.name, "description": event.description}
    working.put("projects", row | owned(logged))


@folds(ev.ProjectUpdated, _needs_project)
def _project_updated(working: WorkingSet, event: ev.ProjectUpdated, _: LoggedEvent) -> None:
    row = alive(working, "projects", event.id)
    free(working, "projects", event.id, event.name)
    working.put("projects", row | {"name": event.name, "description": event.description})


def _needs_vault(event: ev.VaultCreated | ev.VaultUpdated, needs: Needs) -> None:
    needs.keys["vaults"].add((event.id,))
    needs.keys["projects"].add((event.project_id,))
    needs.names["vaults"].add((event.project_id, event.name))


def _vault(event: ev.VaultCreated | ev.VaultUpdated) -> dict[str, object]:
    return {
        "id": event.id,
        "project_id": event.project_id,
        "name": event.name,
        "restricted": event.restricted,
    }


@folds(ev.VaultCreated, _needs_vault)
def _vault_created(working: WorkingSet, event: ev.VaultCreated, logged: LoggedEvent) -> None:
    absent(working, "vaults", event.id)
    alive(working, "projects", event.project_id)
    free(working, "vaults", event.id, event.project_id, event.name)
    working.put("vaults", _vault(event) | owned(logged))


@folds(ev.VaultUpdated, _needs_vault)
def _vault_updated(working: WorkingSet, event: ev.VaultUpdated, _: LoggedEvent) -> None:
    row = alive(working, "vaults", event.id)
    alive(working, "projects", event.project_id)
    free(working, "vaults", event.id, event.project_id, event.name)
    working.put("vaults", row | _vault(event))
