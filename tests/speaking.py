"""Messages held against the AsyncAPI documents of both services.

book = Book.of(backup_document, restore_document)
book.faults(topic, record_headers, body)      # nothing, or what is not as documented
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

Json = dict[str, Any]


def merged(message: Json, document: Json) -> Json:
    """Return a message with its traits in it (AsyncAPI 3.0: JSON Merge Patch, its own win)."""
    found: Json = {}
    own = {name: value for name, value in message.items() if name != "traits"}
    for part in (*(resolved(trait, document) for trait in message.get("traits", ())), own):
        found = dict(patched(found, part))
    return found


def patched(base: Any, patch: Any) -> Any:
    """Return RFC 7396's merge of ``patch`` into ``base``."""
    if not isinstance(patch, dict):
        return patch
    found = dict(base) if isinstance(base, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = patched(found.get(name), value)
    return found


def resolved(node: Json, document: Json) -> Json:
    """Follow a reference within the document."""
    while "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def strict(schema: Any) -> Any:
    """Return a schema that takes no field that it does not name: nothing is said unsaid."""
    if isinstance(schema, list):
        return [strict(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(inner) for name, inner in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found


@dataclass(frozen=True)
class Book:
    """What may stand on each topic, by its full name and the type of the message."""

    validators: Mapping[tuple[str, str], tuple[Any, Any]]

    @classmethod
    def of(cls, *documents: Json) -> Book:
        found: dict[tuple[str, str], tuple[Any, Any]] = {}
        for document in documents:
            schemas = strict(document["components"]["schemas"])
            for channel in document["channels"].values():
                for kind, named in channel["messages"].items():
                    message = merged(resolved(named, document), document)
                    parts = (message["headers"], message.get("payload", True))
                    found[channel["address"], kind] = tuple(
                        _validator(strict(part), schemas) for part in parts
                    )
        return cls(found)

    def faults(self, topic: str, headers: Mapping[str, str], body: Any) -> list[str]:
        """Return what is not as the documents say."""
        kind = headers["ce_type"]
        if (topic, kind) not in self.validators:
            return [f"{kind} is not documented on {topic}"]
        found = []
        for validator, part in zip(
            self.validators[topic, kind], (dict(headers), body), strict=True
        ):
            found += [
                f"{kind}: {'.'.join(map(str, error.instance_path))}: {error.message[:200]}"
                for error in validator.iter_errors(part)
            ]
        return found


def _validator(schema: Any, schemas: Json) -> Any:
    if schema is True:
        return jsonschema_rs.Draft7Validator(True)
    whole = {"allOf": [schema], "components": {"schemas": schemas}}
    return jsonschema_rs.Draft7Validator(whole, validate_formats=True)
