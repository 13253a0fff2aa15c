"""Structured logs: one JSON document a line on standard error, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from shared.secretshapes import NAMED, PRIVATE_KEY, RANDOM, SECRET_NAME

# A field whose name tells of a secret is dropped whatever it holds, but for these.
_ALLOWED = frozenset({"key_state", "key_file", "key_id", "secret_file", "root_key_id"})
# And text that is one wherever it stands.
_SECRET_TEXT = re.compile(
    f"{PRIVATE_KEY}|{NAMED}|{RANDOM}"
    r"|bearer [A-Za-z0-9._~+/=-]{8,}|(?<=password=)('(\\.|[^'])*'|\S+)"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",
    re.DOTALL | re.IGNORECASE,
)
REDACTED = "[redacted]"


def redact(_logger: Any, _name: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take what looks like a secret out of a log entry, however deep it lies."""
    entry.update(_document(entry))
    return entry


def _document(document: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        _text(str(name)): REDACTED if _names_a_secret(str(name)) else _value(inner)
        for name, inner in document.items()
    }


def _names_a_secret(name: str) -> bool:
    return name not in _ALLOWED and SECRET_NAME.search(name.replace("-", "_")) is not None


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return _document(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_value(inner) for inner in value]
    if isinstance(value, bytes | bytearray | memoryview):
        # Never meant for people, and where keys are bytes they look like any others.
        return REDACTED
    # Anything else becomes text here and not in the renderer, behind what is looked at.
    return _text(str(value))


def _text(text: str) -> str:
    return _SECRET_TEXT.sub(REDACTED, text)


def configure_logs(service: str) -> None:
    """Set the process up to log as ``service``; call once, first of all."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Traces without local variables: those could hold anything.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
            ),
            redact,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # It warns of what it ignores, with the server's own words, which may repeat a value.
    logging.getLogger("psycopg").disabled = True
