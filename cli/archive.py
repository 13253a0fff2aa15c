"""`secryn archive`: look into an archive, check it and export it, offline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from cli.options import Json
from cli.output import command, emit
from cli.progress import shown
from shared.archive.export import ExportedTable, Format, check_folder, export_archive
from shared.archive.keyfile import KeyFile, read_key_file
from shared.archive.manifest import Manifest
from shared.archive.reader import open_archive
from shared.archive.trust import TrustedBy, check_trust
from shared.archive.verify import VerifiedArchive, check_schema, verify_archive
from shared.errors import SignerUntrusted, UsageError

app = typer.Typer(
    help="An archive and its key, offline: no service, no database.", no_args_is_help=True
)

File = Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="The .age file.")]
KeyFileOption = Annotated[
    Path, typer.Option("--key-file", dir_okay=False, help="File with the backup's key.")
]
TrustSigner = Annotated[
    str | None, typer.Option(metavar="FINGERPRINT", help="Fingerprint of a signer you know.")
]

TRUSTED = {
    "key_file": "the key file names this file and its signer",
    "caller": "you named its signer",
}
SHOWN = (
    *("backup_id", "instance_id", "environment", "epoch", "offset", "cluster_id", "topic_id"),
    *("created_at", "format_version", "schema_version", "size_bytes", "sha256", "digest", "signer"),
)
DATA_KEY_WARNING = (
    "The export holds the data keys: whoever reads it opens every secret in it.\n"
    "Delete it as soon as you can."
)


@app.command()
@command
def inspect(file: File, *, key_file: KeyFileOption, as_json: Json = False) -> None:
    """Show what FILE is and holds: header, manifest, tables, signer.

    The file is read to its end, its members and its signature are checked; rows are not counted.
    """
    key = read_key_file(key_file)
    with _opened(file) as source, _progress("Inspect", file, as_json) as progress:
        archive = open_archive(source, [key.identity])
        for _ in archive.parts():
            progress(archive.size_bytes)
    read = VerifiedArchive(archive.manifest, archive.sha256, archive.size_bytes)
    document = _facts(read, _trust_or_none(read, key))
    emit(document, as_json, lambda: _tell(document))


@app.command()
@command
def verify(
    file: File, *, key_file: KeyFileOption, trust_signer: TrustSigner = None, as_json: Json = False
) -> None:
    """Read FILE to its last byte; check every digest, row count, the signature and its trust."""
    key = read_key_file(key_file)
    read, trusted_by = _verified(file, key, trust_signer, as_json)
    document = {"verified": True} | _facts(read, trusted_by)

    def tell() -> None:
        _tell(document)
        typer.echo("Verified: every byte, every row, every digest, the signature.")

    emit(document, as_json, tell)


@app.command()
@command
def export(
    file: File,
    *,
    key_file: KeyFileOption,
    output: Annotated[
        Path, typer.Option("-o", "--output", file_okay=False, help="A folder, new or empty.")
    ],
    form: Annotated[Format, typer.Option("--format", help="csv or jsonl.")],
    trust_signer: TrustSigner = None,
    with_data_keys: Annotated[
        bool,
        typer.Option(
            "--with-data-keys", help="Also the keys that open every secret: in the clear."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Verify FILE, then write one file a table: 0600, in a folder of 0700.

    Secret values stay sealed; bytes are base64. The keyring's data keys are left out, unless
    you ask for them.
    """
    check_folder(output)
    key = read_key_file(key_file)
    read, trusted_by = _verified(file, key, trust_signer, as_json)
    with _opened(file) as source, _progress("Export", file, as_json) as progress:
        tables = export_archive(
            source,
            [key.identity],
            read,
            output,
            form,
            with_data_keys=with_data_keys,
            progress=progress,
        )
    if with_data_keys:
        typer.echo(DATA_KEY_WARNING, err=True)
    document = {
        "backup_id": str(read.manifest.backup.backup_id),
        "trusted_by": trusted_by,
        "format": form,
        "folder": str(output),
        "with_data_keys": with_data_keys,
        "tables": {name: _exported(table) for name, table in tables.items()},
    }
    emit(document, as_json, lambda: _tell_export(document))


def _verified(
    file: Path, key: KeyFile, trust_signer: str | None, as_json: bool
) -> tuple[VerifiedArchive, TrustedBy]:
    with _opened(file) as source, _progress("Verify", file, as_json) as progress:
        read = verify_archive(source, [key.identity], progress=progress)
    trusted_by = check_trust(read.manifest, read.sha256, key, (), trust_signer)
    check_schema(read.manifest)
    return read, trusted_by


def _trust_or_none(read: VerifiedArchive, key: KeyFile) -> TrustedBy | None:
    try:
        return check_trust(read.manifest, read.sha256, key, (), None)
    except SignerUntrusted:
        return None


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        with file.open("rb") as source:
            yield source
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error


@contextmanager
def _progress(title: str, file: Path, as_json: bool) -> Iterator[Callable[[int], None]]:
    total = file.stat().st_size
    with shown(title, quiet=as_json) as draw:

        def progress(done: int) -> None:
            draw({"state": "reading", "progress": {"done_bytes": done, "total_bytes": total}})

        yield progress


def _facts(read: VerifiedArchive, trusted_by: TrustedBy | None) -> dict[str, Any]:
    manifest = read.manifest
    return manifest.backup.model_dump(mode="json") | {
        "size_bytes": read.size_bytes,
        "sha256": read.sha256,
        "digest": manifest.digest,
        "signer": manifest.signer,
        "trusted_by": trusted_by,
        "members": len(manifest.members),
        "rows": sum(entry.rows for entry in manifest.tables.values()),
        "tables": _tables(manifest),
    }


def _tables(manifest: Manifest) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "rows": entry.rows,
            "digest": entry.digest,
            "parts": entry.parts,
            "columns": {column.name: column.type for column in entry.columns},
        }
        for name, entry in manifest.tables.items()
    }


def _exported(table: ExportedTable) -> dict[str, Any]:
    return {"file": str(table.file), "rows": table.rows, "columns": list(table.columns)}


def _tell(document: Mapping[str, Any]) -> None:
    for name in SHOWN:
        typer.echo(f"{name}: {document[name]}")
    trusted_by = document["trusted_by"]
    typer.echo(
        f"trusted: {TRUSTED[trusted_by]}"
        if trusted_by
        else "trusted: no (give the key file with its comment lines, or name the signer)"
    )
    for name, table in document["tables"].items():
        typer.echo(f"  {name:<22} {table['rows']:>12,} rows  {table['digest']}")


def _tell_export(document: Mapping[str, Any]) -> None:
    for table in document["tables"].values():
        typer.echo(f"{table['file']}: {table['rows']:,} rows")
