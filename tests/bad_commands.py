"""Messages on a command topic that are no command: forged ones, unreadable ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast
from uuid import uuid4

from shared.kafka import OutgoingMessage
from shared.messages import CloudEvent, SigningKey, sign

ISSUER = "ci"
_NOTHING = cast(bytes, None)


@dataclass(frozen=True)
class Commands:
    """What the registered issuer ``ci`` signs."""

    key: SigningKey
    type: str

    def signed(self, name: str, **extensions: str) -> CloudEvent:
        """Return a good command with ``name`` in its body."""
        data = json.dumps({"name": name}).encode()
        event = CloudEvent(self.type, "/ci", data, extensions=extensions)
        return sign(event, self.key, ISSUER)


def forged(commands: Commands) -> Mapping[str, CloudEvent]:
    """Return commands that nobody registered has signed as they are."""
    good = commands.signed("forged", correlationid="c")
    signature = good.extensions["signature"]
    fewer = {k: v for k, v in good.extensions.items() if k != "correlationid"}
    another = SigningKey(bytes(range(32)))
    plain = CloudEvent(commands.type, "/ci", good.data)
    return {
        "without a signature": plain.with_extensions(issuer=ISSUER),
        "without an issuer": plain,
        "of an unknown issuer": sign(plain, another, "stranger"),
        "with another's key": sign(plain, another, ISSUER),
        "signed for another issuer": good.with_extensions(issuer="stranger"),
        "with another body": replace(good, data=good.data.replace(b"forged", b"FORGED")),
        "with another type": replace(good, type="com.secryn.test.delete.v1"),
        "with another id": replace(good, id=uuid4()),
        "with one more attribute": good.with_extensions(epoch="7"),
        "with one attribute less": replace(good, extensions=fewer),
        "with half a signature": good.with_extensions(signature=signature[:64]),
        "with no hex in the signature": good.with_extensions(signature="zz"),
    }


def unreadable(commands: Commands) -> Mapping[str, tuple[OutgoingMessage, str]]:
    """Return messages that are no command, and what is said of them."""
    good = commands.signed("x")
    plain, large = good.to_kafka(b"key"), b"x" * 1_048_450
    nonsense = sign(replace(good, data=b"\xff{"), commands.key, ISSUER)
    unknown = sign(replace(good, type="com.x.y"), commands.key, ISSUER)
    return {
        "nothing but a body": (
            OutgoingMessage(None, b"hello", ()),
            "has no specversion, id, type, source, time",
        ),
        "nothing but a key": (
            OutgoingMessage(b"key", _NOTHING, ()),
            "has no specversion, id, type, source, time",
        ),
        "no body": (replace(plain, value=_NOTHING), "has no body"),
        "no id": (_with(plain, "id", None), "has no id"),
        "an id that is none": (_with(plain, "id", b"1"), "id is not a UUID"),
        "no type": (_with(plain, "type", None), "has no type"),
        "another version": (_with(plain, "specversion", b"2.0"), "another CloudEvents version"),
        "no time": (_with(plain, "time", b"yesterday"), "not RFC 3339"),
        "a time without a zone": (_with(plain, "time", b"2026-01-01T00:00:00"), "no zone"),
        "a time before all time": (_with(plain, "time", b"0001-01-01T00:00:00+23:59"), "outside"),
        "not UTF-8": (_with(plain, "subject", b"\xff"), "ce_subject is not UTF-8"),
        "a malformed name": (_with(plain, "Sub-Ject", b"x"), "malformed or there twice"),
        "a name with a line's end": (_with(plain, "subject\n", b"x"), "malformed or there twice"),
        "a header twice": (replace(plain, headers=plain.headers * 2), "malformed or there twice"),
        "a long header": (_with(plain, "subject", b"x" * 3000), "ce_subject is too long"),
        "control characters": (_with(plain, "issuer", b"ci\0"), "ce_issuer holds control"),
        "a body nearly too large": (OutgoingMessage(None, large, ()), "has no specversion"),
        "a key nearly too large": (OutgoingMessage(large, b"", ()), "has no specversion"),
        "no JSON": (nonsense.to_kafka(), "body is not JSON"),
        "an unknown command": (unknown.to_kafka(), "no command of type 'com.x.y'"),
        "text that cannot be stored": (commands.signed("\0").to_kafka(), "cannot store"),
        "half a character": (commands.signed("\ud800").to_kafka(), "cannot store"),
    }


def _with(message: OutgoingMessage, attribute: str, value: bytes | None) -> OutgoingMessage:
    """Return ``message`` with another value of one attribute, or without it."""
    name = "ce_" + attribute
    kept = tuple(header for header in message.headers if header[0] != name)
    return replace(message, headers=kept if value is None else (*kept, (name, value)))
