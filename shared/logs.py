"""Structured logs: one JSON document a line on standard error, without secrets."""

from __future__ import annotations

import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

# A field with such a name is dropped whatever it holds.
_SECRET_NAME = re.compile(
    r"(^|_)(token|password|passphrase|secret|secrets|identity|key|keys|private|sealed|authorization)"
    r"($|_)(?!id$|file$|path$|fingerprint$)",
    re.IGNORECASE,
)
_ALLOWED = frozenset({"key_state", "key_file", "key_id", "secret_file", "root_key_id"})
# And text that is one wherever it stands.
_SECRET_TEXT = re.compile(
    r"AGE-SECRET-KEY-[A-Z0-9-]+|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END|$)"
    r"|(?i:bearer) [A-Za-z0-9._~+/=-]{8,}|(?<=password=)\S+",
    re.DOTALL,
)
REDACTED = "[redacted]"


def redact(_logger: Any, _name: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop what looks like a secret from a log entry."""
    for name in list(entry):
        if name not in _ALLOWED and _SECRET_NAME.search(name):
            entry[name] = REDACTED
        elif isinstance(entry[name], str):
            entry[name] = _SECRET_TEXT.sub(REDACTED, entry[name])
    return entry


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
            redact_all,
            structlog.processors.JSONRenderer(default=str),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def redact_all(logger: Any, name: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Apply ``redact`` to an entry and to every document nested in it."""
    redact(logger, name, entry)
    for key, value in entry.items():
        entry[key] = _redact_inside(value)
    return entry


def _redact_inside(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _redact_inside(inner) for key, inner in redact(None, "", dict(value)).items()}
    if isinstance(value, list | tuple):
        return [_redact_inside(inner) for inner in value]
    if isinstance(value, str):
        return _SECRET_TEXT.sub(REDACTED, value)
    return value
