"""`secryn audit verify`: does the chain hold, in the services or in a file that was kept?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit, plain
from cli.trails import Service, Whose, trails
from shared.audit import Checkpoint, open_checkpoint
from shared.errors import AuditChainBroken, CheckpointInvalid, UsageError
from shared.messages import IssuerRegistry, PublicKey

NOTE_MAX_BYTES = 4096
File = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="An export or the topic's content; needs no service."
    ),
]
Keys = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="With --file: the public keys of the services (issuers.toml), for the checkpoints.",
    ),
]
Kept = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint", exists=True, dir_okay=False,
        help="A checkpoint that was kept: the trail must lead through it; may be repeated.",
    ),
]  # fmt: skip


@command
def verify(
    *,
    file: File = None,
    keys: Keys = None,
    checkpoint: Kept = None,
    service: Whose = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Check every entry from the first one, and name the first bad one. Exit code 6: there is one.

    Without --file the services read their own trails; each also gives a new signed checkpoint.
    """
    if keys is not None and file is None:
        raise UsageError(
            "the services know their own keys", hint="Leave --keys out, or name --file."
        )
    known = _kept(checkpoint or [])
    chains = _in_file(file, keys, known, service) if file else _in_services(state, service, known)
    intact = bool(chains) and all(chain["intact"] for chain in chains)
    emit({"intact": intact, "chains": chains}, as_json, lambda: _tell(chains))
    if not intact:
        raise typer.Exit(AuditChainBroken.exit_code)


def _kept(paths: list[Path]) -> dict[str, Checkpoint]:
    """Return the checkpoints that were kept, by service."""
    kept: dict[str, Checkpoint] = {}
    for path in paths:
        with path.open("rb") as source:
            text = source.read(NOTE_MAX_BYTES)
        try:
            # Whoever kept it believes it.
            found = open_checkpoint(text.decode("utf-8").rstrip("\n") + "\n", None)
        except UnicodeDecodeError:
            raise CheckpointInvalid(f"{path} is no checkpoint of an audit chain") from None
        if found.service in kept:
            raise UsageError(f"two checkpoints of {found.service}", hint="Give the newer one.")
        kept[found.service] = found
    return kept


def _in_file(
    file: Path, keys: Path | None, known: Mapping[str, Checkpoint], service: Service | None
) -> list[dict[str, Any]]:
    from shared.audit.exported import LINE_MAX_BYTES, verify_lines

    public: list[PublicKey] | None = None
    if keys is not None:
        public = [issuer.public_key for issuer in IssuerRegistry.load(keys).issuers.values()]
    with file.open("rb") as source:
        lines = iter(partial(source.readline, LINE_MAX_BYTES + 1), b"")
        found = verify_lines(lines, public, known)
    return [
        asdict(report)
        | {
            "service": name,
            "intact": report.intact,
            "bad_entry": bad,
            "signatures": keys is not None,
        }
        for name, (report, bad) in sorted(found.items())
        if service is None or name == service.value
    ]


def _in_services(
    state: Path, service: Service | None, known: Mapping[str, Checkpoint]
) -> list[dict[str, Any]]:
    from cli.connect import connected

    with connected(state) as stack:
        return [
            trail.verify(known.get(name)) | {"signatures": True}
            for name, trail in trails(stack, service).items()
        ]


def _tell(chains: list[dict[str, Any]]) -> None:
    if not chains:
        typer.echo("No entries.")
    for chain in chains:
        name = plain(chain["service"])
        if not chain["intact"]:
            typer.echo(
                f"{name}: BROKEN. {plain(chain['reason'])}. {chain['entries']:,} before it fit."
            )
            continue
        signed = f"signed up to entry {chain['signed_through']:,}"
        if not chain["signatures"]:
            signed = "its checkpoints' signatures are not checked without --keys"
        typer.echo(f"{name}: intact, {chain['entries']:,} entries, {signed}. Head {chain['head']}")
