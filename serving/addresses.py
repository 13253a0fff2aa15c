"""Addresses without secrets: what a person pasted into one by mistake goes no further.

A token belongs in a header. One that stands in an address has come as far as the browser's
history; what we send people back to, and what we write down, does not repeat it.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Final
from urllib.parse import parse_qsl, unquote, unquote_plus, urlencode

from shared.secretshapes import NAMED, PRIVATE_KEY, RANDOM, SECRET_NAME

_SHAPES: Final = re.compile(
    f"{NAMED}|{RANDOM}|{PRIVATE_KEY}|bearer [^ ]{{8,}}", re.IGNORECASE | re.DOTALL
)
# One that was typed or cut wrong: a long run of what a token is made of.
_LONG_RUN: Final = re.compile(r"(?<!SHA256:)(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{40,}")
# An address within an address.
_PARAMETER: Final = re.compile(r"(?:^|[?&;#])([A-Za-z0-9_.-]+)=")
# Somebody who encodes more often than that means to.
_DECODED: Final = 4


def holds_secret(text: str) -> bool:
    """Tell whether something in ``text``, however encoded, is shaped like a secret of ours."""
    for _ in range(_DECODED):
        if _is_secret(text):
            return True
        decoded = unquote_plus(text)
        if decoded == text:
            return False
        text = decoded
    return True


def without_secrets(address: str) -> str | None:
    """Return a path with its query, without the parameters that hold a secret.

    None when a part of the path itself is one.
    """
    address, hash_mark, fragment = address.partition("#")
    path, mark, query = address.partition("?")
    if holds_secret(path):
        return None
    if hash_mark and holds_secret(fragment):
        hash_mark = fragment = ""
    if not mark:
        return path + hash_mark + fragment
    given = parse_qsl(query, keep_blank_values=True)
    kept = [(name, value) for name, value in given if not _is_secret_parameter(name, value)]
    if kept != given:
        query = urlencode(kept)
    return path + (f"?{query}" if query else "") + hash_mark + fragment


def page_within(path: str | None, home: str) -> str:
    """Return ``path`` if it is a page of ours, ``home`` otherwise: nobody is sent elsewhere.

    What is shaped like a secret is left out of it.
    """
    if path is None or not path.startswith("/admin/") or "\\" in path or "//" in path:
        return home
    if _climbs(path):
        return home
    clean = without_secrets(path) if path.isprintable() else None
    return home if clean is None else clean


def _climbs(path: str) -> bool:
    """Tell whether a browser, or a proxy that decodes, would take the path for another one."""
    text = re.split("[?#]", path, maxsplit=1)[0]
    for _ in range(_DECODED):
        if not {".", ".."}.isdisjoint(re.split(r"[/\\]", text)):
            return True
        text = unquote(text)
    return False


def _is_secret_parameter(name: str, value: str) -> bool:
    return _names_a_secret(name) or holds_secret(name) or holds_secret(value)


def _names_a_secret(name: str) -> bool:
    return SECRET_NAME.search(name.replace("-", "_")) is not None


def _is_secret(text: str) -> bool:
    if _SHAPES.search(text) or any(map(_names_a_secret, _PARAMETER.findall(text))):
        return True
    return any(_looks_random(run) for run in _LONG_RUN.findall(text))


def _looks_random(run: str) -> bool:
    mixed = any(c.isupper() for c in run) and any(c.islower() for c in run)
    return mixed and not _is_cursor(run)


def _is_cursor(run: str) -> bool:
    try:
        return isinstance(json.loads(base64.urlsafe_b64decode(run + "=" * (-len(run) % 4))), list)
    except (ValueError, RecursionError):
        return False
