"""The machine is gone: on an empty stack with keys of its own, the file and the key file are enough."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.archive.keyfile import read_key_file
from shared.archive.verify import verify_archive
from shared.errors import AnotherInstance, SignerUntrusted
from shared.instance.migrate import newest_version
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live
from tests.plugins.stack import StackUnderTest

# By both together backups would be made, and all but the newest purged, if they held at once.
STANDING: Json = {
    "schedule": {"enabled": True, "frequency": "hourly", "at": "00:00"},
    "retention": {"keep_last": 1},
}


class Saved:
    """What was kept apart from the machine: the file, the key file, and what it should give."""

    def __init__(self, live: Live, folder: Path) -> None:
        for name, value in STANDING.items():
            live.services.configuration.set(name, value, "*", "a test")
        try:
            self.backup, key = live.backup()
        finally:
            for name in STANDING:
                live.services.configuration.set(name, {}, "*", "a test")
        self.file = live.archive(self.backup, folder)
        self.key_file = folder / "backup.key"
        self.key_file.write_text(key)
        self.bare_key = folder / "bare.key"
        self.bare_key.write_text(key.splitlines()[-1] + "\n")
        self.instance_id = live.instance_id
        row = live.admin().execute(
            "SELECT p.name || '/' || v.name || '/' || s.name FROM instance.secrets s "
            "JOIN instance.vaults v ON v.id = s.vault_id JOIN instance.projects p "
            "ON p.id = v.project_id WHERE s.deleted_at IS NULL AND v.deleted_at IS NULL "
            "AND p.deleted_at IS NULL LIMIT 1"
        )
        self.path = str((row.fetchone() or ("",))[0])
        self.secret = json.loads(live.stack.secryn("instance", "secret", self.path).stdout)
        with live.admin() as conn:
            rows = conn.execute("SELECT wrapped, check_value FROM instance.keyring").fetchall()
        unwrap = live.platform.root_key.unwrap
        self.data_keys = [unwrap(bytes(wrapped), bytes(value)) for wrapped, value in rows]


@pytest.fixture(scope="module")
def saved(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return Saved(live, tmp_path_factory.mktemp("apart"))


def restore(stack: StackUnderTest, saved: Saved, key: Path, *more: str) -> Json:
    target = stack.status()["instance_id"]
    done = stack.secryn(
        *("restore", "run", "--file", str(saved.file), "--key-file", str(key)),
        *("--instance", target, "--yes", *more),
        check=False,
    )
    document: Json = json.loads(done.stdout)
    return document


def test_the_file_and_the_key_file_bring_everything_back(
    live: Live, saved: Saved, new_stack: Callable[..., StackUnderTest]
) -> None:
    stack = new_stack()
    stack.up()
    refused = restore(stack, saved, saved.key_file)
    assert refused["error"]["code"] == AnotherInstance.code
    source = ("--source-instance", saved.instance_id)
    refused = restore(stack, saved, saved.bare_key, *source)
    assert refused["error"]["code"] == SignerUntrusted.code

    restored = restore(stack, saved, saved.key_file, *source)

    assert restored["state"] == "restored", restored
    assert restored["checks"]["trusted_by"] == "key_file"
    digest = json.loads(stack.secryn("instance", "digest").stdout)
    assert digest["digest"] == saved.backup["digest"]
    opened = json.loads(stack.secryn("instance", "secret", saved.path).stdout)
    assert opened["value"] == saved.secret["value"]
    _assert_no_data_key_lies_in(stack.state, saved)
    _assert_no_data_key_lies_in(live.stack.state, saved)

    paused_until_confirmed(stack)
    vouched = ("--trust-signer", saved.backup["signer"])
    again = restore(stack, saved, saved.bare_key, *source, *vouched)
    assert (again["state"], again["checks"]["trusted_by"]) == ("restored", "caller")
    assert asked(stack, "schedule", "show")["paused"]


def paused_until_confirmed(stack: StackUnderTest) -> None:
    """What came with another instance's data runs nothing and purges nothing before a word."""
    stack.secryn("backup", "create", "--wait", "--key-file", str(stack.state.parent / "a.key"))
    stack.secryn("backup", "create", "--wait", "--key-file", str(stack.state.parent / "b.key"))
    eventually(lambda: asked(stack, "schedule", "show")["origin"] == "foreign", "it is heard of")
    schedule = asked(stack, "schedule", "show")
    assert (schedule["paused"], schedule["value"]["enabled"], schedule["next_runs"]) == (
        True, True, [],
    )  # fmt: skip
    preview = asked(stack, "retention", "preview")
    assert (preview["origin"], preview["paused"], preview["purge"]) == ("foreign", True, 0)
    assert preview["rules"]["keep_last"] == 1
    waits = asked(stack, "status")["protection"]["awaits_confirmation"]
    assert waits == {"schedule": "foreign", "retention": "foreign"}
    assert asked(stack, "retention", "confirm")["origin"] == "ours"
    preview = asked(stack, "retention", "preview")
    # The restore can still be undone, and what it was made beside is needed until then.
    assert (preview["paused"], preview["backups"][-1]["rule"]) == (False, "undo_window"), preview
    assert asked(stack, "schedule", "confirm")["confirmed"]
    assert len(asked(stack, "schedule", "show")["next_runs"]) == 10


def asked(stack: StackUnderTest, *words: str) -> Json:
    document: Json = json.loads(stack.secryn(*words).stdout)
    return document


@pytest.mark.parametrize("name", ["golden-v1", "golden-v1-schema-2"])
def test_an_archive_of_every_release_is_restored_and_migrated_forward(
    running_stack: StackUnderTest, name: str
) -> None:
    golden = Path(__file__).parents[1] / "vectors" / name
    expected = json.loads((golden / "expected.json").read_text(encoding="utf-8"))
    stack, target = running_stack, running_stack.status()["instance_id"]
    done = stack.secryn(
        *("restore", "run", "--file", str(golden / "backup.age")),
        *("--key-file", str(golden / "backup.key"), "--instance", target),
        *("--source-instance", expected["instance_id"], "--yes"),
    )
    # Compared as it was written, at its own version; the store is of the newest one.
    assert json.loads(done.stdout)["proof"]["digest"] == expected["digest"]
    digest = json.loads(stack.secryn("instance", "digest").stdout)
    assert digest["schema_version"] == newest_version()
    assert {name: table["rows"] for name, table in digest["tables"].items()} == expected["rows"]
    key = read_key_file(golden / "backup.key")
    with (golden / "backup.age").open("rb") as source:
        written = verify_archive(source, [key.identity]).manifest.tables
    for table, entry in digest["tables"].items():
        assert entry["digest"] == written[table].digest, table
    opened = json.loads(stack.secryn("instance", "secret", expected["secret"]).stdout)
    assert opened["value"] == expected["value"]
    # It goes on from there.
    stack.secryn("sample", "write", "--rate", "50", "--seconds", "0.5")


def _assert_no_data_key_lies_in(state: Path, saved: Saved) -> None:
    """Look into every file of a place: both databases, their logs of changes, Kafka's log."""
    assert len(saved.data_keys) >= 3
    looked_at = 0
    for path in state.rglob("*"):
        if not path.is_file() or path.is_symlink():
            continue
        content = path.read_bytes()
        looked_at += 1
        for key in saved.data_keys:
            assert key not in content, path
            assert key.hex().encode() not in content, path
    assert looked_at > 1000
