"""A service that is told to stop: work in hand is finished, or given back after a while; no third."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

# A process with one worker whose work in hand ends as its argument says.
_SERVICE: Final = """
import gc, os, sys, threading
from flask import Flask
from serving import runtime as module
from shared.settings import HttpSettings

def say(text):
    os.write(1, (text + "\\n").encode())

module.GRACE_S, module.GIVE_UP_TIMEOUT_S = 1.0, 1.0
service = module.ServiceRuntime("test")

def work(stop):
    say("working")
    stop.wait()
    assert gc.get_freeze_count() > 10_000, "what stays is out of every collection"
    if sys.argv[1] == "given back":
        service.give_up.wait()
        say("given back")
    elif sys.argv[1] == "finished":
        say("given up" if service.give_up.is_set() else "finished")
    else:
        threading.Event().wait()

service.add_worker("worker", work)
service.on_close(lambda: say("closed"))
sys.exit(service.run(Flask("test"), HttpSettings(port=0, token_file=sys.argv[2])))
"""


WORDS: Final = ("finished", "given up", "given back", "closed")


@pytest.mark.parametrize(
    ("ends", "said", "code"),
    [
        ("finished", ["finished", "closed"], 0),
        ("given back", ["given back", "closed"], 0),
        ("never", ["closed"], 1),
    ],
)
def test_what_a_service_has_in_hand_at_a_stop_is_finished_or_given_back(
    tmp_path: Path, ends: str, said: list[str], code: int
) -> None:
    token = tmp_path / "token"
    token.write_text("token")
    token.chmod(0o600)
    with subprocess.Popen(
        [sys.executable, "-c", _SERVICE, ends, str(token)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "working" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=20)
    # The log goes the same way, and a line of it is more than one write.
    assert re.findall("|".join(WORDS), told) == said
    assert process.returncode == code
