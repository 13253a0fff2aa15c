"""Bech32 (BIP 173) without its limit on length, as age writes keys."""

from __future__ import annotations

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_CHARS = 6


def encode(prefix: str, data: bytes) -> str:
    """Return ``data`` in Bech32 with the human-readable ``prefix``, in lower case."""
    values = _regroup(data, 8, 5, pad=True)
    checksum = _polymod([*_expand(prefix), *values, *[0] * _CHECKSUM_CHARS]) ^ 1
    values += [(checksum >> 5 * (5 - i)) & 31 for i in range(_CHECKSUM_CHARS)]
    return prefix + "1" + "".join(_CHARSET[value] for value in values)


def decode(text: str) -> tuple[str, bytes]:
    """Return prefix (in lower case) and data. Raises ValueError, without the text."""
    if text.lower() != text and text.upper() != text:
        raise ValueError("mixed case")
    text = text.lower()
    prefix, separator, rest = text.rpartition("1")
    if not separator or not prefix or len(rest) < _CHECKSUM_CHARS:
        raise ValueError("no separator or too short")
    if any(not "!" <= character <= "~" for character in prefix):
        raise ValueError("an invalid character in the prefix")
    values = [_CHARSET.find(character) for character in rest]
    if -1 in values:
        raise ValueError("an invalid character")
    if _polymod([*_expand(prefix), *values]) != 1:
        raise ValueError("a wrong checksum")
    return prefix, bytes(_regroup(bytes(values[:-_CHECKSUM_CHARS]), 5, 8, pad=False))


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum


def _expand(prefix: str) -> list[int]:
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def _regroup(data: bytes, from_bits: int, to_bits: int, *, pad: bool) -> list[int]:
    accumulator = bits = 0
    out: list[int] = []
    for value in data:
        accumulator = accumulator << from_bits | value
        bits += from_bits
        while bits >= to_bits:
            bits -= to_bits
            out.append(accumulator >> bits & (1 << to_bits) - 1)
        accumulator &= (1 << bits) - 1
    if pad and bits:
        out.append(accumulator << to_bits - bits & (1 << to_bits) - 1)
    elif not pad and (bits >= from_bits or accumulator):
        raise ValueError("non-zero padding")
    return out
