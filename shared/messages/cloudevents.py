"""CloudEvents 1.0 in Kafka's binary mode (CloudEvents Kafka Protocol Binding 1.0.2, section 3.2).

Attributes are headers ``ce_<name>``, the data is the record's value, its media type the header
``content-type``. Reading is strict: what is malformed goes to a dead-letter topic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID, uuid4

from shared.errors import MessageUnreadable, UsageError
from shared.kafka.producer import OutgoingMessage
from shared.kafka.reader import Record

SPEC_VERSION = "1.0"
JSON = "application/json"
_PREFIX = "ce_"
_REQUIRED = ("specversion", "id", "type", "source", "time")
# CloudEvents 1.0, section 3.1: names of attributes are lower-case letters and digits.
_NAME = re.compile(r"[a-z0-9]{1,20}")
# Section 3.1.1: strings hold no control characters; PostgreSQL stores no NUL either.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MAX_ATTRIBUTE_CHARS = 2048


@dataclass(frozen=True)
class CloudEvent:
    """One message. ``extensions`` holds every attribute beyond the standard ones."""

    type: str
    source: str
    data: bytes
    subject: str = ""
    id: UUID = field(default_factory=uuid4)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    extensions: Mapping[str, str] = field(default_factory=dict)

    def with_extensions(self, **more: str) -> CloudEvent:
        """Return the same event with more extension attributes."""
        return replace(self, extensions=dict(self.extensions) | more)

    def attributes(self) -> dict[str, str]:
        """Return every attribute as text, extensions included."""
        standard = {
            "specversion": SPEC_VERSION,
            "id": str(self.id),
            "type": self.type,
            "source": self.source,
            "time": format_time(self.time),
        }
        if self.subject:
            standard["subject"] = self.subject
        return standard | dict(self.extensions)

    def to_kafka(self, key: bytes | None = None) -> OutgoingMessage:
        """Return the record that carries this event.

        Raises UsageError for an attribute that no reader would take: on a log it would stay.
        """
        headers = []
        for name, text in self.attributes().items():
            fault = _fault_of(text)
            if fault is not None:
                raise UsageError(f"the attribute {name} of the message {fault}")
            headers.append((_PREFIX + name, text.encode()))
        headers.append(("content-type", JSON.encode()))
        return OutgoingMessage(key, self.data, tuple(headers))

    @classmethod
    def from_kafka(cls, record: Record) -> CloudEvent:
        """Read the event that ``record`` carries. Raises MessageUnreadable, saying why."""
        attributes = _attributes_of(record)
        if not all(map(attributes.get, _REQUIRED)):
            missing = [name for name in _REQUIRED if not attributes.get(name)]
            raise MessageUnreadable(f"the message has no {', '.join(missing)}")
        if attributes.pop("specversion") != SPEC_VERSION:
            raise MessageUnreadable("the message is of another CloudEvents version than 1.0")
        if record.value is None:
            raise MessageUnreadable("the message has no body")
        try:
            identity = UUID(attributes.pop("id"))
        except ValueError:
            raise MessageUnreadable("the message's id is not a UUID") from None
        return cls(
            id=identity,
            type=attributes.pop("type"),
            source=attributes.pop("source"),
            time=parse_time(attributes.pop("time")),
            subject=attributes.pop("subject", ""),
            data=record.value,
            extensions=attributes,
        )


def _attributes_of(record: Record) -> dict[str, str]:
    found: dict[str, str] = {}
    for header, raw in record.headers:
        name = _attribute_name(header)
        if name is None:
            continue
        if name in found:
            raise MessageUnreadable("a header of the message is malformed or there twice")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise MessageUnreadable(f"the header {header} is not UTF-8") from None
        fault = _fault_of(text)
        if fault is not None:
            raise MessageUnreadable(f"the header {header} {fault}")
        found[name] = text
    return found


@lru_cache(maxsize=256)
def _attribute_name(header: str) -> str | None:
    """Return the attribute's name; None for a header that carries none."""
    if not header.startswith(_PREFIX):
        return None
    name = header[len(_PREFIX) :]
    if not _NAME.fullmatch(name):
        raise MessageUnreadable("a header of the message is malformed or there twice")
    return name


def _fault_of(text: str) -> str | None:
    if len(text) > _MAX_ATTRIBUTE_CHARS:
        return "is too long"
    if text.isprintable():
        # Then it holds neither: most texts need no closer look.
        return None
    if _CONTROL.search(text):
        return "holds control characters"
    if _SURROGATE.search(text):
        return "holds half a character"
    return None


def format_time(time: datetime) -> str:
    """Return ``time`` as RFC 3339 in UTC with microseconds."""
    utc = time.astimezone(UTC).replace(tzinfo=None)
    return utc.isoformat(timespec="microseconds") + "Z"


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time, in UTC. Raises MessageUnreadable when it is none or has no zone."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise MessageUnreadable("the message's time is not RFC 3339") from None
    if time.tzinfo is UTC:
        return time
    if time.tzinfo is None:
        raise MessageUnreadable("the message's time has no zone")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise MessageUnreadable("the message's time lies outside of the years 1 to 9999") from None
