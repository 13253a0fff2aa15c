"""Check an archive to its last byte and row: what a proof and `secryn archive verify` do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.archive.age import Identity
from shared.archive.age.header import Source
from shared.archive.copybinary import encode_tuple, split_fields, split_tuples
from shared.archive.limits import DEFAULT_LIMITS, Limits
from shared.archive.manifest import Manifest
from shared.archive.reader import Part, open_archive, read_ahead
from shared.errors import ArchiveMalformed, ManifestMismatch
from shared.instance.digest import TableDigest, instance_digest
from shared.instance.keyring import KEY_BYTES, check_value_of
from shared.instance.migrate import tables_of_version

# In an archive the keyring's tuples are (id, purpose, state, data_key, check_value, created_at).
KEYRING = "keyring"
KEYRING_FIELDS = 6
KEYRING_DATA_KEY = 3
KEYRING_CHECK_VALUE = 4


@dataclass(frozen=True)
class VerifiedArchive:
    """An archive that is what its manifest says; the signer's trust is not judged."""

    manifest: Manifest
    sha256: str
    size_bytes: int


def verify_archive(
    source: Source,
    identities: Sequence[Identity],
    limits: Limits = DEFAULT_LIMITS,
    progress: Callable[[int], None] | None = None,
) -> VerifiedArchive:
    """Read everything, count every row and compute every digest anew; two parts are held at a time.

    ``progress`` is called with the bytes of the object read so far. Raises the ArchiveErrors.
    """
    archive = open_archive(source, identities, limits)
    digests: defaultdict[str, TableDigest] = defaultdict(TableDigest)
    for part in read_ahead(archive.parts()):
        add_part(digests[part.table], part)
        if progress is not None:
            progress(archive.size_bytes)
    check_tables(archive.manifest, digests)
    return VerifiedArchive(archive.manifest, archive.sha256, archive.size_bytes)


def add_part(digest: TableDigest, part: Part) -> None:
    """Take the rows of ``part`` into its table's digest. Raises ArchiveMalformed."""
    if part.table == KEYRING:
        for row in split_tuples(part.copy):
            digest.add(digest_form_of_key(row))
        return
    digest.add_all(split_tuples(part.copy))


def digest_form_of_key(row: bytes) -> bytes:
    """Return a data key's row as digests take it: without the key, which must fit its check value.

    Raises ArchiveMalformed, ManifestMismatch.
    """
    _, fields = split_key(row)
    del fields[KEYRING_DATA_KEY]
    return encode_tuple(fields)


def split_key(row: bytes) -> tuple[bytes, list[bytes | None]]:
    """Return the data key in a row of the keyring, and all fields of the row.

    Raises ArchiveMalformed, ManifestMismatch when the key does not fit its check value.
    """
    fields = split_fields(row)
    if len(fields) != KEYRING_FIELDS:
        raise ArchiveMalformed(f"a row of {KEYRING} has another number of fields")
    data_key, check_value = fields[KEYRING_DATA_KEY], fields[KEYRING_CHECK_VALUE]
    if data_key is None or len(data_key) != KEY_BYTES or check_value != check_value_of(data_key):
        raise ManifestMismatch("a data key of the archive does not fit its check value")
    return data_key, fields


def check_tables(manifest: Manifest, digests: dict[str, TableDigest]) -> None:
    """Compare row counts and digests with the manifest. Raises ManifestMismatch."""
    found = {name: digest.hexdigest(name) for name, digest in digests.items()}
    for name, entry in manifest.tables.items():
        rows = digests[name].rows if name in digests else 0
        if rows != entry.rows:
            raise ManifestMismatch(f"{name} has {rows} rows, the manifest says {entry.rows}")
        if found.get(name) != entry.digest:
            raise ManifestMismatch(f"the digest of {name} is not the manifest's")
    if instance_digest(manifest.backup.schema_version, found) != manifest.digest:
        raise ManifestMismatch("the digest of the instance is not the manifest's")


def check_schema(manifest: Manifest) -> None:
    """Tell whether this software knows the archive's schema and all of its tables.

    Raises SchemaTooNew, ManifestMismatch.
    """
    if set(manifest.tables) != tables_of_version(manifest.backup.schema_version):
        raise ManifestMismatch("the archive's tables are not those of its schema version")
