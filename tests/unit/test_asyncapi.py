"""What is said and taken over Kafka stands in the AsyncAPI documents, all of it."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

import backup_service
import restore_service
import serving
import shared
from backup_service import spoken as of_backup
from backup_service.command_handlers import command_handlers as backup_commands
from backup_service.command_handlers import restore_event_handlers
from backup_service.context import BackupContext
from backup_service.events import OPERATION_NOTED
from restore_service import spoken as of_restore
from restore_service.command_handlers import command_handlers as restore_commands
from restore_service.context import RestoreContext
from serving.asyncapi import asyncapi
from shared.instance.events import EVENT_TYPES
from shared.messages.topics import (
    BACKUP_COMMANDS,
    BACKUP_EVENTS,
    INSTANCE_EVENTS,
    RESTORE_COMMANDS,
    RESTORE_EVENTS,
    TOPICS,
)
from tests.plugins.oidc import INTEROP
from tests.speaking import resolved

TYPE = re.compile(r"com\.secryn\.[a-z_.]+\.v[0-9]+")
DOCUMENTS = {
    "backup_service": asyncapi("backup_service", of_backup.SPOKEN, "secryn.{}".format),
    "restore_service": asyncapi("restore_service", of_restore.SPOKEN, "secryn.{}".format),
}
BACKUP, RESTORE = DOCUMENTS.values()


def kinds(document: dict[str, Any], topic: str, action: str) -> set[str]:
    """Return the types that a service sends to, or receives from, a topic."""
    found: set[str] = set()
    for operation in document["operations"].values():
        if operation["action"] == action and operation["channel"]["$ref"] == f"#/channels/{topic}":
            found |= {each["$ref"].rsplit("/", 1)[1] for each in operation["messages"]}
    return found


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in (*value.keys(), *value.values()):
            yield from texts(inner)
    elif isinstance(value, tuple | frozenset | set | list):
        for inner in value:
            yield from texts(inner)


def types_in_code() -> set[str]:
    """Return every type of message that a module of ours knows."""
    found: set[str] = set()
    for package in (backup_service, restore_service, serving, shared):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.rpartition(".")[2] == "__main__":
                continue
            for value in vars(importlib.import_module(module.name)).values():
                found |= {text for text in texts(value) if TYPE.fullmatch(text)}
    return found


def test_every_topic_stands_in_a_document_at_its_address() -> None:
    channels = BACKUP["channels"] | RESTORE["channels"]
    assert set(channels) == set(TOPICS)
    assert {name: channel["address"] for name, channel in channels.items()} == {
        name: f"secryn.{name}" for name in TOPICS
    }
    kept = channels[INSTANCE_EVENTS]["bindings"]["kafka"]["topicConfiguration"]
    assert (kept["cleanup.policy"], kept["retention.ms"]) == (["delete"], -1)


def test_every_command_that_has_a_handler_stands_in_the_document_of_its_service() -> None:
    backup, restore = cast(BackupContext, None), cast(RestoreContext, None)
    assert kinds(BACKUP, BACKUP_COMMANDS, "receive") == set(backup_commands(backup))
    assert kinds(RESTORE, RESTORE_COMMANDS, "receive") == set(restore_commands(restore))
    assert kinds(BACKUP, RESTORE_EVENTS, "receive") == set(restore_event_handlers(backup))
    # What one asks of the other is what the other takes.
    asked = kinds(RESTORE, BACKUP_COMMANDS, "send")
    assert asked <= kinds(BACKUP, BACKUP_COMMANDS, "receive")
    for name in asked:
        payloads = [d["components"]["messages"][name]["payload"] for d in DOCUMENTS.values()]
        first, second = (
            resolved(payload, d) for payload, d in zip(payloads, DOCUMENTS.values(), strict=True)
        )
        assert first == second


def test_every_type_of_event_in_the_code_stands_in_a_document() -> None:
    documented = {kind for d in DOCUMENTS.values() for kind in d["components"]["messages"]}
    # It is kept for the list of operations, and published nowhere.
    assert types_in_code() - documented == {OPERATION_NOTED}
    assert set(EVENT_TYPES) == kinds(BACKUP, INSTANCE_EVENTS, "receive")
    assert not kinds(BACKUP, BACKUP_EVENTS, "send") & kinds(RESTORE, RESTORE_EVENTS, "send")


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_every_body_is_described_and_every_reference_leads_somewhere(
    document: dict[str, Any],
) -> None:
    def references(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node
            for inner in node.values():
                yield from references(inner)
        elif isinstance(node, list):
            for inner in node:
                yield from references(inner)

    for reference in references(document):
        assert resolved(reference, document) is not None
    for kind, message in document["components"]["messages"].items():
        if kind != "dead_letter":
            body = resolved(message["payload"], document)
            assert body["type"] == "object", kind
            assert kind in EVENT_TYPES or body.get("description"), kind


def faults(document: dict[str, Any], folder: Path) -> list[str]:
    """Return what the parser of the specification's authors finds wrong."""
    if shutil.which("node") is None or not (INTEROP / "node_modules/@asyncapi/parser").exists():
        if os.environ.get("CI"):
            pytest.fail("npm's @asyncapi/parser is missing: make test-deps")
        pytest.skip("npm's @asyncapi/parser is missing: make test-deps")
    file = folder / "asyncapi.json"
    file.write_text(json.dumps(document))
    command = ["node", str(INTEROP / "asyncapi.mjs"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    return [str(fault) for fault in json.loads(done.stdout)]


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_the_documents_are_asyncapi_3(document: dict[str, Any], tmp_path: Path) -> None:
    assert faults(document, tmp_path) == []


def test_what_is_none_is_found(tmp_path: Path) -> None:
    operations = {"x": {"action": "say", "channel": {"$ref": "#/channels/audit"}}}
    assert any("action" in fault for fault in faults(BACKUP | {"operations": operations}, tmp_path))
