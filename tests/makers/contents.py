"""Random events of projects and vaults, and of what lies in them."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from shared.instance import events as ev
from tests.makers.world import FIRST_DAY, World, made, of_known, of_marked

# RFC 5280, section 4.1.2.5: the last moment of 9999 means "does not end".
MOMENTS: Final = (
    datetime(1, 1, 1, tzinfo=UTC), datetime(1950, 1, 1, tzinfo=UTC), FIRST_DAY,
    datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
)  # fmt: skip


of_known(ev.ProjectDeleted, "projects")
of_known(ev.VaultDeleted, "vaults")
of_known(ev.SecretDeleted, "secrets")
of_marked(ev.SecretUndeleted, "secrets")
of_marked(ev.SecretPurged, "secrets")
of_known(ev.KeyDeleted, "keys")
of_known(ev.CertificateDeleted, "certificates")


@made(ev.ProjectCreated)
def _project_created(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.ProjectCreated(
        id=world.fresh("projects", rng), name=world.name(rng), description=world.text(rng)
    )


@made(ev.ProjectUpdated)
def _project_updated(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.ProjectUpdated(
        id=world.known("projects", rng), name=world.name(rng), description=world.text(rng)
    )


@made(ev.VaultCreated)
def _vault_created(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.VaultCreated(
        id=world.fresh("vaults", rng),
        project_id=world.known("projects", rng),
        name=world.name(rng),
        restricted=rng.random() < 0.5,
    )


@made(ev.VaultUpdated)
def _vault_updated(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.VaultUpdated(
        id=world.known("vaults", rng),
        project_id=world.known("projects", rng),
        name=world.name(rng),
        restricted=rng.random() < 0.5,
    )


def _labels(world: World, rng: Random) -> dict[str, str]:
    return {world.name(rng): world.text(rng) for _ in range(rng.choice((0, 1, 3)))}


@made(ev.SecretCreated)
def _secret_created(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.SecretCreated(
        id=world.fresh("secrets", rng),
        vault_id=world.known("vaults", rng),
        name=world.name(rng),
        kind=world.name(rng),
        labels=_labels(world, rng),
        sealed=world.data(rng),
        size_bytes=rng.choice((0, 1, 2**31 - 1)),
    )


@made(ev.SecretVersionAdded)
def _secret_version_added(world: World, rng: Random) -> ev.InstanceEvent:
    secret = world.known("secrets", rng)
    return ev.SecretVersionAdded(
        id=secret,
        version=world.next_version("secrets", secret, rng),
        sealed=world.data(rng),
        size_bytes=rng.randint(0, 99),
    )


@made(ev.SecretUpdated)
def _secret_updated(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.SecretUpdated(
        id=world.known("secrets", rng),
        vault_id=world.known("vaults", rng),
        name=world.name(rng),
        labels=_labels(world, rng),
    )


def _public_key(world: World, rng: Random) -> bytes | None:
    return world.data(rng) if rng.random() < 0.7 else None


@made(ev.KeyCreated)
def _key_created(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.KeyCreated(
        id=world.fresh("keys", rng),
        vault_id=world.known("vaults", rng),
        name=world.name(rng),
        algorithm=world.name(rng),
        public_key=_public_key(world, rng),
        sealed_private=world.data(rng),
    )


@made(ev.KeyRotated)
def _key_rotated(world: World, rng: Random) -> ev.InstanceEvent:
    key = world.known("keys", rng)
    return ev.KeyRotated(
        id=key,
        version=world.next_version("keys", key, rng),
        public_key=_public_key(world, rng),
        sealed_private=world.data(rng),
    )


def _content(world: World, rng: Random) -> dict[str, Any]:
    return {
        "der": world.data(rng),
        "subject": world.text(rng),
        "issuer": world.text(rng),
        "serial": world.name(rng),
        "not_before": rng.choice(MOMENTS),
        "not_after": rng.choice(MOMENTS),
        "key_id": world.known("keys", rng) if rng.random() < 0.5 else None,
    }


@made(ev.CertificateCreated)
def _certificate_created(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.CertificateCreated(
        id=world.fresh("certificates", rng),
        vault_id=world.known("vaults", rng),
        name=world.name(rng),
        **_content(world, rng),
    )


@made(ev.CertificateRenewed)
def _certificate_renewed(world: World, rng: Random) -> ev.InstanceEvent:
    certificate = world.known("certificates", rng)
    version = world.next_version("certificates", certificate, rng)
    return ev.CertificateRenewed(id=certificate, version=version, **_content(world, rng))


@made(ev.CertificateRevoked)
def _certificate_revoked(world: World, rng: Random) -> ev.InstanceEvent:
    row = world.row("certificate_versions", rng)
    if row and rng.random() < 0.85:
        return ev.CertificateRevoked(id=row["certificate_id"], version=row["version"])
    return ev.CertificateRevoked(id=world.known("certificates", rng), version=rng.randint(1, 3))
