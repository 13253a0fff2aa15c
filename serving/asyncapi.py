"""The AsyncAPI 3.0 document of a service: what it says and takes over Kafka, and in which form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from shared.messages.topics import DEAD_LETTER_SUFFIX, TOPICS

Json = dict[str, Any]
FullName = Callable[[str], str]

JSON: Final = "application/json"
# The type that a dead letter stands under: it keeps whatever it had.
DEAD_LETTER: Final = "dead_letter"
KAFKA_BINDING: Final = "0.5.0"
_REF: Final = "#/components/schemas/{model}"
_INFO: Final = (
    "Messages are CloudEvents 1.0 in Kafka's binary mode with a JSON body, each signed (Ed25519) by "
    "a registered issuer. A command that is not signed, or cannot be read, goes to the dead-letter "
    "topic of its own; one that is understood and refused is answered by an event. Events are told "
    "at least once, in their order: drop repeats by `ce_id`, and ignore fields that you do not know."
)


@dataclass(frozen=True)
class Spoken:
    """What a service sends to, or receives from, one topic: the model of each type of message."""

    topic: str
    action: Literal["send", "receive"]
    summary: str
    messages: Mapping[str, Any]
    # Where a command that is refused is answered, and by which type.
    answered_on: str | None = None
    answers: tuple[str, ...] = ()
    # Whether every message must be signed, and what they may say beside what all may.
    signed: bool = True
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name of the operation."""
        return f"{self.action}.{self.topic}"


def asyncapi(title: str, spoken: Iterable[Spoken], full_name: FullName) -> Json:
    """Return the document of ``spoken``; ``full_name`` gives a topic its prefix."""
    spoken = list(spoken)
    models = {kind: model for each in spoken for kind, model in each.messages.items()}
    payloads, schemas = _schemas(models)
    topics = sorted({each.topic for each in spoken})
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version("secryn-backup"), "description": _INFO},
        "defaultContentType": JSON,
        "channels": {topic: _channel(topic, full_name, spoken) for topic in topics},
        "operations": {each.name: _operation(each) for each in spoken},
        "components": {
            "messages": {
                kind: _message(kind, payloads.get(kind), _spoken_with(kind, spoken))
                for kind in sorted(models)
            },
            "messageTraits": {name: _trait(required) for name, required in _TRAITS.items()},
            "schemas": schemas,
        },
    }


def _schemas(models: Mapping[str, Any]) -> tuple[Json, Json]:
    """Return what stands for the body of each type, and every schema under a name of its own."""
    known = {id(model): model for model in models.values() if model is not None}
    inputs: list[tuple[int, Literal["validation"], TypeAdapter[Any]]] = [
        (key, "validation", TypeAdapter(model)) for key, model in known.items()
    ]
    found, shared = TypeAdapter.json_schemas(inputs, ref_template=_REF)
    by_model = {key: schema for (key, _), schema in found.items()}
    payloads = {kind: by_model[id(model)] for kind, model in models.items() if model is not None}
    return payloads, dict(sorted(shared.get("$defs", {}).items()))


def _spoken_with(kind: str, spoken: Iterable[Spoken]) -> Spoken:
    return next(each for each in spoken if kind in each.messages)


def _channel(topic: str, full_name: FullName, spoken: Iterable[Spoken]) -> Json:
    kinds = sorted({kind for each in spoken if each.topic == topic for kind in each.messages})
    settings: Json = {
        name: int(value) if name.startswith("retention.") else value
        for name, value in TOPICS[topic].items()
    }
    if "cleanup.policy" in settings:
        settings["cleanup.policy"] = settings["cleanup.policy"].split(",")
    return {
        "address": full_name(topic),
        "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in kinds},
        "bindings": {
            "kafka": {
                "partitions": 1,
                "bindingVersion": KAFKA_BINDING,
            }
            | ({"topicConfiguration": settings} if settings else {})
        },
    }


def _operation(each: Spoken) -> Json:
    found: Json = {
        "action": each.action,
        "summary": each.summary,
        "channel": {"$ref": f"#/channels/{each.topic}"},
        "messages": _messages_of(each.topic, sorted(each.messages)),
    }
    if each.answered_on is not None:
        found["reply"] = {
            "channel": {"$ref": f"#/channels/{each.answered_on}"},
            "messages": _messages_of(each.answered_on, each.answers),
        }
    return found


def _messages_of(topic: str, kinds: Iterable[str]) -> list[Json]:
    return [{"$ref": f"#/channels/{topic}/messages/{kind}"} for kind in kinds]


def _message(kind: str, payload: Json | None, spoken: Spoken) -> Json:
    if kind == DEAD_LETTER:
        summary = "What could not be read or believed, as it came, and why."
        return {"name": kind, "summary": summary, "headers": _dead_headers()}
    trait = "signed" if spoken.signed else "unsigned"
    more = {f"ce_{name}": _TEXT | {"description": text} for name, text in spoken.attributes.items()}
    return {
        "name": kind,
        "traits": [{"$ref": f"#/components/messageTraits/{trait}"}],
        "headers": {"type": "object", "properties": {"ce_type": {"const": kind}} | more},
        "payload": payload,
    }


def _trait(required: Iterable[str]) -> Json:
    """Return what messages have in common; their own headers are merged into these."""
    return {
        "contentType": JSON,
        "headers": {
            "type": "object",
            "properties": _CLOUD_EVENT,
            "required": sorted(required),
        },
        "correlationId": {"location": "$message.header#/ce_correlationid"},
        "bindings": {"kafka": {"key": _TEXT, "bindingVersion": KAFKA_BINDING}},
    }


_TEXT: Final[Json] = {"type": "string"}
_CLOUD_EVENT: Final[Json] = {
    "content-type": {"const": JSON},
    "ce_specversion": {"const": "1.0"},
    "ce_type": _TEXT,
    "ce_id": {"type": "string", "format": "uuid"},
    "ce_source": {"type": "string", "description": "Who sent it: /secryn/ and the service."},
    "ce_time": {"type": "string", "format": "date-time"},
    "ce_subject": {"type": "string", "description": "The stream: of which backup, say."},
    "ce_actor": {"type": "string", "description": "Who did it."},
    "ce_correlationid": {"type": "string", "description": "What belongs to one request."},
    "ce_causationid": {"type": "string", "description": "The message or command behind it."},
    "ce_traceparent": {"type": "string", "description": "W3C Trace Context."},
    "ce_issuer": {"type": "string", "description": "Under which name its key is registered."},
    "ce_signature": {"type": "string", "description": "Ed25519 over all of it, in hex."},
}
_REQUIRED: Final = frozenset({"ce_specversion", "ce_type", "ce_id", "ce_source", "ce_time"})
_TRAITS: Final[Mapping[str, Iterable[str]]] = {
    "signed": _REQUIRED | {"ce_issuer", "ce_signature"},
    "unsigned": _REQUIRED,
}
_WHY_DEAD: Final[Mapping[str, str]] = {
    "dead_letter_code": "A code of docs/errors.md.",
    "dead_letter_reason": "What happened.",
    "dead_letter_offset": "Where it stands on the topic that it came by.",
}


def _dead_headers() -> Json:
    known: Json = {name: _TEXT | {"description": text} for name, text in _WHY_DEAD.items()}
    left_out = {"description": "What was too large to be put aside, if anything."}
    return {
        "type": "object",
        "properties": known | {"dead_letter_left_out": _TEXT | left_out},
        "required": sorted(known),
    }


def dead_letters(commands: str) -> Spoken:
    """Return what is said on the dead-letter topic of a command topic."""
    topic = commands + DEAD_LETTER_SUFFIX
    return Spoken(topic, "send", "What is put aside, with its reason", {DEAD_LETTER: None})
