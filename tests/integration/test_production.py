"""A production environment must be named; no `--yes` skips that, nor a wrong name or id."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from cli.connect import connected
from shared.errors import TargetMismatch
from tests.plugins.stack import StackUnderTest


def test_production_is_named_or_nothing_happens(
    given_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> None:
    stack = given_stack()
    named = stack.up("--environment", "eu-1", "--environment-kind", "production")["instance_id"]
    key = tmp_path / "key"
    done = stack.secryn("backup", "create", "--wait", "--key-file", str(key))
    backup = json.loads(done.stdout)
    run = ("restore", "run", "--backup", backup["backup_id"], "--key-file", str(key), "--yes")
    undo = ("restore", "undo", "--yes")
    for wrong in (
        (*run, "--instance", named),
        (*run, "--instance", named, "--environment", "eu-2"),
        (*run, "--instance", str(uuid4()), "--environment", "eu-1"),
        (*undo, "--instance", named),
        ("instance", "adopt-log", "--instance", named, "--yes"),
    ):
        refused = stack.refusal(*wrong)
        assert refused["code"] == TargetMismatch.code, wrong
    with connected(stack.state) as services:
        # Nor does the service itself take it from anybody.
        with pytest.raises(TargetMismatch):
            services.restores.start(
                target_instance_id=named, key_file_text=key.read_text(), reason="a test",
                backup_id=backup["backup_id"],
            )  # fmt: skip
        with pytest.raises(TargetMismatch):
            services.restores.undo(target_instance_id=named, reason="a test")
        assert services.restores.list()["restores"] == []
    done = stack.secryn(*run, "--instance", named, "--environment", "eu-1")
    assert json.loads(done.stdout)["state"] == "restored"
    done = stack.secryn(*undo, "--instance", named, "--environment", "eu-1")
    assert json.loads(done.stdout)["state"] == "restored"
