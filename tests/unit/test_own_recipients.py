"""Own recipients: which text is one, which may stand together, and who may name them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_service.commands import parse_create
from backup_service.configuration.schedule import Schedule
from backup_service.keys.recipients import parse_recipients
from serving.requester import Requester
from shared.archive.age import (
    HybridIdentity,
    X25519Identity,
    X25519Recipient,
    recipient_fingerprint,
)
from shared.errors import (
    AccessError,
    ProofNeeded,
    RecipientInvalid,
    RecipientsMixed,
    UsageError,
)
from tests.clock import HandClock

CLASSIC = X25519Identity(bytes(range(32)))
HYBRID = HybridIdentity(bytes(range(32)))
ONE = CLASSIC.to_recipient().encode()
QUANTUM = HYBRID.to_recipient().encode()
CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
NOW = HandClock().now()
PERSON = Requester("anna", frozenset({"create", "view_key"}), "http:test", "corr", proven_at=NOW)
ISSUER = replace(
    PERSON, name="issuer:ci", proven_at=None, allowed_recipients=frozenset({ONE})
)  # fmt: skip


@given(st.sampled_from([ONE, QUANTUM]), st.data())
def test_a_flipped_character_is_found_and_the_hint_says_what_to_write(
    recipient: str, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(recipient) - 1))
    other = data.draw(st.sampled_from([c for c in CHARSET if c != recipient[place]]))
    flipped = recipient[:place] + other + recipient[place + 1 :]
    with pytest.raises(RecipientInvalid) as refused:
        parse_recipients([flipped])
    assert "age1" in refused.value.advice
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    "text",
    ["", "age1", ONE.upper(), ONE[:-1], ONE + "q", "ssh-ed25519 AAAA", "age1yubikey1q", ONE + "\n" + ONE],
)  # fmt: skip
def test_what_is_no_recipient_is_refused(text: str) -> None:
    with pytest.raises(RecipientInvalid):
        parse_recipients([text])


@pytest.mark.parametrize("identity", [CLASSIC, HYBRID])
def test_an_identity_given_by_mistake_is_shown_nowhere(
    identity: X25519Identity | HybridIdentity,
) -> None:
    with pytest.raises(RecipientInvalid, match="secret half") as refused:
        parse_recipients([identity.encode()])
    assert identity.encode()[18:30] not in str(refused.value.as_problem())


def test_a_point_that_nothing_can_be_encrypted_to_is_refused_when_it_is_named() -> None:
    with pytest.raises(RecipientInvalid, match="nothing can be encrypted"):
        parse_recipients([X25519Recipient(bytes(32)).encode()])


def test_each_stands_once_in_its_one_form() -> None:
    two = X25519Identity.generate().to_recipient().encode()
    assert parse_recipients([f" {two}\n", ONE, two]) == (two, ONE)
    assert parse_recipients([]) == ()


def test_post_quantum_ones_stand_alone() -> None:
    with pytest.raises(RecipientsMixed):
        parse_recipients([QUANTUM, ONE])
    other = HybridIdentity.generate().to_recipient().encode()
    assert parse_recipients([QUANTUM, other]) == (QUANTUM, other)


def test_a_command_is_refused_with_the_same_words() -> None:
    command = {"command_id": "6f1c0d5e-3c6b-4a40-9d0c-0d3f5a7c1b21", "reason": "a test"}
    for recipients, error in (([ONE[:-1]], RecipientInvalid), ([ONE, QUANTUM], RecipientsMixed)):
        with pytest.raises(error):
            parse_create(command | {"recipients": recipients})
    with pytest.raises(UsageError):
        parse_create(command | {"recipients": [ONE] * 17})
    assert parse_create(command | {"recipients": [ONE, f"{ONE} "]}).recipients == (ONE,)


def test_naming_one_takes_what_viewing_a_key_takes() -> None:
    PERSON.may_name([ONE], NOW, 300)
    replace(PERSON, proven_at=None, unattended=True).may_name([ONE], NOW, 300)
    with pytest.raises(AccessError, match="view_key"):
        replace(PERSON, permissions=frozenset({"create"})).may_name([ONE], NOW, 300)
    with pytest.raises(ProofNeeded):
        replace(PERSON, proven_at=None).may_name([ONE], NOW, 300)


def test_naming_none_takes_nothing() -> None:
    replace(PERSON, permissions=frozenset(), proven_at=None).may_name([], NOW, 300)


def test_an_issuer_names_only_those_on_its_list_by_text_or_by_fingerprint() -> None:
    ISSUER.may_name([ONE], NOW, 300)
    with pytest.raises(AccessError, match="may not name"):
        ISSUER.may_name([QUANTUM], NOW, 300)
    listed = frozenset({recipient_fingerprint(QUANTUM)})
    replace(ISSUER, allowed_recipients=listed).may_name([QUANTUM], NOW, 300)
    with pytest.raises(AccessError):
        replace(ISSUER, allowed_recipients=frozenset()).may_name([ONE], NOW, 300)


def test_the_schedule_refuses_what_a_command_refuses() -> None:
    for recipients, error in (([ONE[:-1]], RecipientInvalid), ([ONE, QUANTUM], RecipientsMixed)):
        with pytest.raises(error):
            Schedule(recipients=tuple(recipients))
    assert Schedule(recipients=(ONE, f"{ONE}\n")).recipients == (ONE,)
