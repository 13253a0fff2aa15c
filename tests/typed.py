"""`secryn` as typed, without the second that Python takes to import it: for tests of what it does.

done = typed.secryn(["backup", "list", "--json"], environment={}, timeout_s=60)

Each call is a process of its own, a copy of one that has the command line imported. What only the
start of the real command could show is shown by tests/e2e/test_demo.py, which types it.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cli.main import COMMANDS, GROUPS, main
from tests import forked

forked.preload(__name__)
for _module in sorted({*COMMANDS.values(), *GROUPS.values()}):
    importlib.import_module(_module)


def secryn(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    timeout_s: float,
    given: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run one command that reads ``given``.

    Raises subprocess.TimeoutExpired, and the command is gone.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder, name) for name in ("in", "out", "err")]
        for path, text in zip(streams, (given, "", ""), strict=True):
            path.write_text(text, "utf-8")
        environment = {**os.environ, **environment}
        process = forked.start(_typed, list(arguments), environment, Path.cwd(), streams)
        process.join(timeout_s)
        if process.exitcode is None:
            forked.kill(process)
            raise subprocess.TimeoutExpired(list(arguments), timeout_s)
        _, out, err = (path.read_text("utf-8") for path in streams)
        return subprocess.CompletedProcess(list(arguments), process.exitcode, out, err)


def _typed(
    arguments: list[str], environment: dict[str, str], folder: Path, streams: list[Path]
) -> None:
    for number, (path, how) in enumerate(
        zip(
            streams,
            (os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_APPEND),
            strict=True,
        )
    ):
        handle = os.open(path, how)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["secryn", *arguments]
    main()
