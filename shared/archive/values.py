"""PostgreSQL's binary form of the types that an instance's tables use, as text for an export.

The forms are those of the types' send functions (PostgreSQL, src/backend/utils/adt): integers
big-endian, a timestamp as microseconds since 2000-01-01 UTC, jsonb as a version byte and text.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NoReturn
from uuid import UUID

from shared.errors import ArchiveMalformed

JSONB_VERSION = 1
_EPOCH = datetime(2000, 1, 1)
_INFINITY = 2**63 - 1
# The Gregorian calendar repeats after 400 years: so Python's years 1 to 9999 lead to all others.
_CYCLE_US = 146_097 * 86_400_000_000
_CYCLE_YEARS = 400
_YEAR_ONE_US = -63_082_281_600_000_000
_YEAR_10000_US = 252_455_616_000_000_000


class RawJson(str):
    """Text that is one JSON value on one line, written into an export as it stands."""

    __slots__ = ()


Value = bool | int | str | RawJson


def _boolean(data: bytes) -> bool:
    if data not in (b"\0", b"\1"):
        raise ValueError("neither true nor false")
    return data == b"\1"


def _integer(form: str) -> Callable[[bytes], int]:
    unpack = struct.Struct(form).unpack

    def decode(data: bytes) -> int:
        number: int = unpack(data)[0]
        return number

    return decode


def _text(data: bytes) -> str:
    return data.decode("utf-8")


def _uuid(data: bytes) -> str:
    return str(UUID(bytes=data))


def _bytea(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _timestamptz(data: bytes) -> str:
    (microseconds,) = struct.unpack(">q", data)
    if abs(microseconds) >= _INFINITY:
        return "infinity" if microseconds > 0 else "-infinity"
    cycles = 0
    if microseconds >= _YEAR_10000_US:
        cycles = (microseconds - _YEAR_10000_US) // _CYCLE_US + 1
    elif microseconds < _YEAR_ONE_US:
        cycles = (microseconds - _YEAR_ONE_US) // _CYCLE_US
    moment = _EPOCH + timedelta(microseconds=microseconds - cycles * _CYCLE_US)
    year = moment.year + cycles * _CYCLE_YEARS
    shown = f"{year:04d}" if 0 <= year <= 9999 else f"{year:+05d}"
    return f"{shown}-{moment.strftime('%m-%dT%H:%M:%S')}.{moment.microsecond:06d}Z"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _jsonb(data: bytes) -> RawJson:
    if data[:1] != bytes([JSONB_VERSION]):
        raise ValueError("another version of jsonb")
    text = data[1:].decode("utf-8")
    # Only judged, never rewritten: a number keeps its digits.
    json.loads(text, parse_int=str, parse_float=str, parse_constant=_no_constant)
    return RawJson(text.replace("\r", " ").replace("\n", " "))


DECODERS: Mapping[str, Callable[[bytes], Value]] = {
    "bigint": _integer(">q"),
    "boolean": _boolean,
    "bytea": _bytea,
    "integer": _integer(">i"),
    "jsonb": _jsonb,
    "smallint": _integer(">h"),
    "text": _text,
    "timestamp with time zone": _timestamptz,
    "uuid": _uuid,
}


def decoder_of(type_name: str) -> Callable[[bytes], Value]:
    """Return what decodes a field of ``type_name``; it raises ArchiveMalformed for other bytes.

    Raises ArchiveMalformed for a type that is not among those of this format.
    """
    decode = DECODERS.get(type_name)
    if decode is None:
        raise ArchiveMalformed(f"a column has the type {type_name!r}, which is not known here")

    def checked(data: bytes) -> Value:
        try:
            return decode(data)
        except (ValueError, struct.error, RecursionError):
            raise ArchiveMalformed(f"a value is not of its type {type_name}") from None

    return checked
