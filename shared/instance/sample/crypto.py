"""Stored keys with their versions, and certificates: the bundle's and issued ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from uuid import UUID

from shared.instance import events as ev
from shared.instance.sample import material, names
from shared.instance.sample.contents import Contents
from shared.instance.sample.source import Source
from shared.instance.writer import NewEvent

KEYS: Final = 48
MAX_KEY_VERSIONS: Final = 4
ISSUED: Final = 48
DAYS: Final = 90


def created(
    certificate: UUID, vault: UUID, name: str, facts: material.CertificateFacts, key: UUID | None
) -> ev.CertificateCreated:
    """Return the event that stores a certificate's first version."""
    return ev.CertificateCreated(
        id=certificate, vault_id=vault, name=name, key_id=key, **_content(facts)
    )


def _content(facts: material.CertificateFacts) -> dict[str, Any]:
    return asdict(facts)


@dataclass
class Crypto:
    """What exists by the end of the first part."""

    keys: list[UUID] = field(default_factory=list)
    certificates: list[UUID] = field(default_factory=list)


def keys(source: Source, contents: Contents, crypto: Crypto) -> Iterator[NewEvent]:
    """Create keys of every algorithm and rotate most of them; delete one."""
    for number in range(KEYS):
        algorithm = material.ALGORITHMS[number % len(material.ALGORITHMS)]
        key = source.uuid()
        crypto.keys.append(key)
        pair = material.make_key(algorithm, number)
        yield source.draft(
            ev.KeyCreated(
                id=key,
                vault_id=source.rng.choice(contents.vaults),
                name=f"{source.rng.choice(names.TEAMS)}-{algorithm}-{number:03d}",
                algorithm=algorithm,
                public_key=pair.public,
                sealed_private=source.seal(pair.private, "key", key, 1),
            )
        )
        for version in range(2, source.rng.randint(1, MAX_KEY_VERSIONS) + 1):
            pair = material.make_key(algorithm, number + version)
            yield source.draft(
                ev.KeyRotated(
                    id=key,
                    version=version,
                    public_key=pair.public,
                    sealed_private=source.seal(pair.private, "key", key, version),
                )
            )
    yield source.draft(ev.KeyDeleted(id=crypto.keys[-1]))


def bundle(source: Source, contents: Contents) -> Iterator[NewEvent]:
    """Store every CA certificate of the bundle in one vault; revoke and delete one."""
    vault = contents.vaults[names.VAULTS.index("certificates")]
    last = None
    for entry in material.bundle():
        last = source.uuid()
        yield source.draft(created(last, vault, entry.name, entry.facts, None))
    if last is not None:
        yield source.draft(ev.CertificateRevoked(id=last, version=1))
        yield source.draft(ev.CertificateDeleted(id=last))


def issued(source: Source, contents: Contents, crypto: Crypto) -> Iterator[NewEvent]:
    """Store a key for each host, a certificate issued over it, and its renewals."""
    authority = material.Authority(f"Sample CA{source.tail}", source.now)
    vaults = [
        vault
        for index, vault in enumerate(contents.vaults)
        if names.VAULTS[index % len(names.VAULTS)] == "certificates"
    ]
    yield source.draft(
        created(source.uuid(), vaults[0], f"Sample CA{source.tail}", authority.root, None)
    )
    for number in range(ISSUED):
        host = f"{'größe' if number % 7 == 0 else 'host'}-{number:03d}{source.tail}.example.org"
        algorithm = "RSA-2048" if number % 6 == 0 else "EC-P256"
        vault, key, certificate = vaults[number % len(vaults)], source.uuid(), source.uuid()
        pair = material.make_key(algorithm, number)
        yield source.draft(
            ev.KeyCreated(
                id=key,
                vault_id=vault,
                name=host,
                algorithm=algorithm,
                public_key=pair.public,
                sealed_private=source.seal(pair.private, "key", key, 1),
            )
        )
        crypto.certificates.append(certificate)
        facts = authority.issue(host, pair, source.now, DAYS)
        yield source.draft(created(certificate, vault, host, facts, key))
        for version in range(2, source.rng.randint(1, 3) + 1):
            facts = authority.issue(host, pair, source.now, DAYS)
            yield source.draft(
                ev.CertificateRenewed(
                    id=certificate, version=version, key_id=key, **_content(facts)
                )
            )
    for certificate in source.some(crypto.certificates, 0.1):
        yield source.draft(ev.CertificateRevoked(id=certificate, version=1))
