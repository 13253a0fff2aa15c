"""A second person beside the operator of a live stack: an issuer who may approve.

alice = register(live.stack, "alice")              # in the place's list; the service read it anew
alice.approve(live, restore_id)                    # a signed command over Kafka
alice.sends(live, START_RESTORE, command)          # any other
start_command(live, restore, key)                  # the key again, sealed for that start
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from uuid import uuid4

from deploy.embedded.folder import open_state
from restore_service.commands import APPROVE_RESTORE
from shared.archive.age import parse_recipient, seal
from shared.messages import CloudEvent, SigningKey
from shared.messages.topics import RESTORE_COMMANDS
from tests.plugins.live import Json, Live
from tests.plugins.stack import StackUnderTest


@dataclass(frozen=True)
class Person:
    """Somebody who signs commands."""

    name: str
    key: SigningKey

    def sends(self, live: Live, kind: str, data: Json) -> CloudEvent:
        return live.command(RESTORE_COMMANDS, kind, data, key=self.key, issuer=self.name)

    def approve(self, live: Live, **named: str) -> CloudEvent:
        return self.sends(live, APPROVE_RESTORE, {"command_id": str(uuid4())} | named)


def register(stack: StackUnderTest, name: str) -> Person:
    """Add an issuer to the place's list and let restore_service read it."""
    person = Person(name, SigningKey(os.urandom(32)))
    with open_state(stack.state).key("issuers.toml").open("a", encoding="ascii") as file:
        file.write(
            f'\n[{name}]\npublic_key = "{person.key.public.raw.hex()}"\n'
            'permissions = ["approve", "configure", "restore"]\n'
        )
    restart(stack)
    return person


def restart(stack: StackUnderTest) -> None:
    """Stop restore_service, in order that its group on Kafka is left, and wait until it is back."""
    before = stack.pids()["restore"]
    os.kill(before, signal.SIGTERM)

    def is_back(found: Json) -> bool:
        pids = {process["pid"] for process in found["processes"]}
        return bool(found["healthy"]) and before not in pids

    stack.wait(is_back)


def restore_command(live: Live, backup: Json, key: str) -> Json:
    """Build a command to restore a stored backup, for Kafka."""
    named = {
        "command_id": str(uuid4()),
        "target_instance_id": live.instance_id,
        "backup_id": backup["backup_id"],
    }
    return named | {"sealed_key": _sealed(live, named | {"key": key}), "reason": "a test"}


def start_command(live: Live, restore: Json, key: str) -> Json:
    """Build the command that starts an approved restore of a stored backup, for Kafka."""
    asked = restore["asked"]
    named = {name: asked[name] for name in ("command_id", "target_instance_id", "backup_id")}
    return {
        "command_id": str(uuid4()),
        "restore_id": restore["restore_id"],
        "sealed_key": _sealed(live, named | {"action": "start", "key": key}),
    }


def _sealed(live: Live, body: Json) -> str:
    recipient = live.services.restores.connection.call("GET", "/api/v1/recipient")["recipient"]
    return seal(json.dumps(body).encode(), [parse_recipient(recipient)]).hex()
