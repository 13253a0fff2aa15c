"""Bech32: what is written is read, and everything else is refused without being shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.archive.age import (
    HybridIdentity,
    X25519Identity,
    bech32,
    parse_identity,
    parse_recipient,
)
from shared.errors import KeyMalformed, SecrynError, UsageError
from tests.unit.archive_age.keys import IDENTITY, RECIPIENT

SECRET = IDENTITY.encode()
BECH32_FAULT = "mixed case|separator|invalid character|wrong checksum"
HYBRID = HybridIdentity(bytes(range(32)))


@given(st.text(st.characters(min_codepoint=33, max_codepoint=64), min_size=1), st.binary())
def test_what_is_written_is_read(prefix: str, data: bytes) -> None:
    text = bech32.encode(prefix, data)
    assert bech32.decode(text) == (prefix, data)
    assert bech32.decode(text.upper()) == (prefix, data)


@pytest.mark.parametrize(
    "text", ["A12UEL5L", "a12uel5l", "an83characterlonghumanreadablepartthatcontainsthenumber1"
             "andtheexcludedcharactersbio1tt5tgs", "?1ezyfcl"],
)  # fmt: skip
def test_valid_strings_of_bip_173_are_read(text: str) -> None:
    assert bech32.decode(text)[1] == b""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("1", id="a separator alone"),
        pytest.param("pzry9x0s0muk", id="no separator"),
        pytest.param("1pzry9x0s0muk", id="no prefix"),
        pytest.param("x1b4n0q5v", id="a character outside of the alphabet"),
        pytest.param("li1dgmt3", id="too short a checksum"),
        pytest.param("A1G7SGD8", id="a checksum of the upper-case prefix"),
        pytest.param("A12uEL5L", id="mixed case"),
        pytest.param("\x201nwldj5", id="a space in the prefix"),
        pytest.param("\x7f1axkwrx", id="a control character in the prefix"),
        pytest.param("\u212a12uel5l", id="a letter that only looks like one"),
    ],
)
def test_invalid_strings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=BECH32_FAULT):
        bech32.decode(text)


def test_padding_that_is_not_zero_is_refused() -> None:
    # Five bits more than a byte, the last of which are set.
    values = [31, 31]
    checksum = bech32._polymod([*bech32._expand("a"), *values, *[0] * 6]) ^ 1
    values += [(checksum >> 5 * (5 - i)) & 31 for i in range(6)]
    text = "a1" + "".join(bech32._CHARSET[value] for value in values)
    with pytest.raises(ValueError, match="padding"):
        bech32.decode(text)


@pytest.mark.parametrize("text", [SECRET, RECIPIENT.encode()])
def test_every_single_wrong_character_is_found(text: str) -> None:
    for position, character in enumerate(text):
        replaced = "q" if character.lower() != "q" else "p"
        replaced = replaced.upper() if text.isupper() else replaced
        wrong = text[:position] + replaced + text[position + 1 :]
        with pytest.raises(ValueError, match=BECH32_FAULT):
            bech32.decode(wrong)


def test_two_neighbours_exchanged_are_found() -> None:
    for position in range(len(SECRET) - 1):
        one, two = SECRET[position], SECRET[position + 1]
        if one != two:
            with pytest.raises(KeyMalformed):
                parse_identity(SECRET[:position] + two + one + SECRET[position + 2 :])


@pytest.mark.parametrize("identity", [IDENTITY, HYBRID])
def test_keys_are_read_as_they_were_written(identity: X25519Identity | HybridIdentity) -> None:
    assert parse_identity(identity.encode()) == identity
    assert parse_identity(f" {identity.encode()}\r\n") == identity
    recipient = identity.to_recipient()
    assert parse_recipient(recipient.encode()) == recipient
    assert parse_recipient(f" {recipient.encode()}\n") == recipient


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(SECRET.lower(), id="lower case"),
        pytest.param(SECRET[:-1], id="cut off"),
        pytest.param(SECRET + "Q", id="too long"),
        pytest.param(bech32.encode("age-secret-key-", bytes(31)).upper(), id="31 bytes"),
        pytest.param(bech32.encode("age-secret-key-", bytes(33)).upper(), id="33 bytes"),
        pytest.param(bech32.encode("age-secret-key-pq-", bytes(64)).upper(), id="64 bytes"),
        pytest.param(bech32.encode("age-plugin-x-", bytes(32)).upper(), id="a plug-in's"),
        pytest.param(RECIPIENT.encode(), id="a recipient"),
        pytest.param("AGE-SECRET-KEY-1" + "\u00e4" * 58, id="not ASCII"),
    ],
)
def test_what_is_no_identity_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(KeyMalformed) as refused:
        parse_identity(text)
    assert not text or text[16:] not in told(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(RECIPIENT.encode().upper(), id="capitals"),
        pytest.param(RECIPIENT.encode()[:-1], id="cut off"),
        pytest.param(bech32.encode("age", bytes(31)), id="31 bytes"),
        pytest.param(bech32.encode("age1pq", bytes(32)), id="a short post-quantum one"),
        pytest.param(bech32.encode("age1tag", bytes(33)), id="of an unknown kind"),
    ],
)
def test_what_is_no_recipient_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_recipient(text)


def test_an_identity_given_as_a_recipient_is_refused_and_not_shown() -> None:
    for secret in (SECRET, SECRET[:-1], HYBRID.encode(), HYBRID.encode()[:-1]):
        with pytest.raises(UsageError) as refused:
            parse_recipient(secret)
        data = secret.rpartition("1")[2]
        assert not any(data[i : i + 5] in told(refused.value) for i in range(len(data) - 4))


def told(error: SecrynError) -> str:
    return f"{error!r} {error} {error.as_problem()}"
