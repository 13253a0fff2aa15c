"""`secryn demo`: the main job, end to end, on real parts; every claim is checked.

The demonstration runs the same commands as a person would, shows each, and compares what they
answer. It stands in a folder of its own that is removed at the end, so that it runs twice in a
row and beside another copy of itself.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.demo_report import write_report
from cli.output import command
from shared.errors import DemoFailed


@dataclass
class Step:
    """One command of the demonstration and what came of it."""

    title: str
    command: str
    seconds: float
    result: str


@dataclass
class Story:
    """What was run so far; every command goes through here."""

    steps: list[Step] = field(default_factory=list)
    moments: dict[str, dict[str, Any]] = field(default_factory=dict)

    def digest(self, title: str, moment: str, state: str) -> dict[str, Any]:
        """Note what the instance is at ``moment``."""
        self.moments[moment] = self.run(title, "instance", "digest", "--state", state)
        return self.moments[moment]

    def run(self, title: str, *arguments: str) -> dict[str, Any]:
        """Run ``secryn ARGUMENTS --json`` and return its document. Raises DemoFailed."""
        shown = "secryn " + " ".join(arguments)
        typer.echo(f"\n{title}\n  $ {shown}")
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments, "--json"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - started
        if done.returncode != 0:
            raise DemoFailed(f"`{shown}` ended with {done.returncode}: {done.stdout.strip()}")
        self.steps.append(Step(title, shown, seconds, ""))
        document: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
        return document

    def say(self, result: str) -> None:
        """Write what the last command showed."""
        self.steps[-1].result = result
        typer.echo(f"  {result}   ({self.steps[-1].seconds:.1f} s)")


@command
def demo(
    report: Annotated[Path, typer.Option(help="Where to write the page.")] = Path(
        "demo-report.html"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder with both stacks.")] = False,
) -> None:
    """Back a live instance up, change it, restore it, lose it, and prove it equal each time."""
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="secryn-demo-"))
    story = Story()
    finished = False
    try:
        proofs = _tell_the_story(story, folder)
        finished = True
    finally:
        for name in ("first", "second"):
            if (folder / name).exists():
                subprocess.run(
                    [sys.executable, "-m", "cli.main", "down", "--state", str(folder / name)],
                    stdout=subprocess.DEVNULL,
                    check=False,
                )
        if finished and not keep:
            shutil.rmtree(folder)
        else:
            typer.echo(f"Kept: {folder}", err=True)
    seconds = time.monotonic() - started
    write_report(report, story.steps, proofs, story.moments, seconds=seconds, folder=folder)
    typer.echo("\nWhat was proven:")
    for claim, evidence in proofs.items():
        typer.echo(f"  [equal] {claim}\n          {evidence}")
    typer.echo(f"\nAll of it in {seconds:.0f} s. The page: {report.resolve()}")


def _tell_the_story(story: Story, folder: Path) -> dict[str, str]:
    first, second = str(folder / "first"), str(folder / "second")
    key_file, archive = folder / "backup.key", folder / "backup.age"

    stack = story.run("1. Start a real Kafka, PostgreSQL and both services", "up", "--state", first)
    story.say(f"instance {stack['instance_id']}")
    loaded = story.run("2. Fill the instance", "sample", "load", "--state", first)
    story.say(f"{loaded['events']:,} events: projects, vaults, secrets, keys, certificates, users")
    path = loaded["example_secret"]
    before = story.digest("3. Note what it is", "at the backup", first)
    story.say(f"digest {before['digest'][:24]}... at offset {before['offset']}")
    secret = story.run("and one of its secrets", "instance", "secret", path, "--state", first)
    story.say(f"{path} opens")

    backup = story.run(
        "4. Back it up; the one-time key goes into a file",
        *("backup", "create", "--wait", "--key-file", str(key_file), "--state", first),
    )
    story.say(f"{backup['size_bytes']:,} bytes, offset {backup['offset']}, read back and proven")
    story.run(
        "and take the file away",
        *("backup", "download", backup["backup_id"], "-o", str(archive), "--state", first),
    )
    story.say("downloaded, SHA-256 checked")

    written = story.run(
        "5. Damage: two seconds of writes that nobody wanted",
        *("sample", "write", "--rate", "300", "--seconds", "2", "--state", first),
    )
    story.say(f"{written['events']:,} events written")
    changed = story.digest("the instance is another now", "damaged", first)
    story.say(f"digest {changed['digest'][:24]}... at offset {changed['offset']}")
    _expect(changed["digest"] != before["digest"], "the writes changed nothing")

    story.run(
        "6. Restore: the whole instance is replaced",
        *("restore", "run", "--backup", backup["backup_id"], "--key-file", str(key_file)),
        *("--instance", stack["instance_id"], "--yes", "--state", first),
    )
    story.say("restored")
    after = story.digest("and compared", "restored", first)
    _expect(after["digest"] == before["digest"], "the restored instance differs")
    story.say("the same digest as before the damage")
    _expect(
        story.run("its secret opens", "instance", "secret", path, "--state", first)["value"]
        == secret["value"],
        "the restored secret differs",
    )
    story.say("the same value")

    bare = story.run(
        "7. The machine burns: another, empty stack with keys of its own", "up", "--state", second
    )
    story.say(f"instance {bare['instance_id']}, empty")
    story.run(
        "one file and one key",
        *("restore", "run", "--file", str(archive), "--key-file", str(key_file)),
        *("--instance", bare["instance_id"], "--source-instance", stack["instance_id"]),
        *("--yes", "--state", second),
    )
    story.say("restored")
    reborn = story.digest("and compared", "on a new machine", second)
    _expect(reborn["digest"] == before["digest"], "the instance on the new machine differs")
    story.say("the same digest as on the machine that burned")
    _expect(
        story.run("its secret opens", "instance", "secret", path, "--state", second)["value"]
        == secret["value"],
        "the secret on the new machine differs",
    )
    story.say("the same value")

    rows = sum(table["rows"] for table in before["tables"].values())
    tables = f"{len(before['tables'])} tables, {rows:,} rows, digest {before['digest'][:16]}..."
    return {
        "the instance after the restore = the instance before the damage": tables,
        "the instance on a new machine = the instance that burned": tables,
        f"the secret {path} opens in both with the value it had": "read through the instance's "
        "own keyring, under another root key on the new machine",
    }


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DemoFailed(otherwise)
