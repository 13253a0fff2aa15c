"""Verifications of passwords are bounded: who comes on top is sent away at once."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from argon2 import PasswordHasher, extract_parameters

from serving.access.passwords import (
    LEAST_PASSWORD_CHARS,
    MAX_PASSWORD_BYTES,
    PasswordGate,
    hash_password,
    verify_password,
)
from serving.access.people import Person
from shared.errors import SignInBusy, UsageError

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def person(password_hash: str | None, *, enabled: bool = True) -> Person:
    return Person(uuid4(), "anna", "Anna", enabled, password_hash, "", 1, ())


def test_one_runs_one_waits_and_the_third_is_sent_away() -> None:
    gate, entered, leave = PasswordGate(at_once=1, waiting=1), [], threading.Event()

    def verify() -> None:
        with gate.entered():
            entered.append(1)
            leave.wait(10)

    threads = [threading.Thread(target=verify) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not entered or gate._places._value:
        pass
    with pytest.raises(SignInBusy), gate.entered():
        pass
    leave.set()
    for thread in threads:
        thread.join(10)
    assert len(entered) == 2
    with gate.entered():
        pass


def test_a_new_password_is_hashed_as_rfc_9106_recommends() -> None:
    made = hash_password("a" * LEAST_PASSWORD_CHARS)
    found = extract_parameters(made)
    assert (found.type.name, found.memory_cost, found.time_cost, found.parallelism) == (
        "ID", 65536, 3, 4,
    )  # fmt: skip
    for wrong in ("a" * (LEAST_PASSWORD_CHARS - 1), "a" * (MAX_PASSWORD_BYTES + 1)):
        with pytest.raises(UsageError):
            hash_password(wrong)


@pytest.mark.parametrize(
    "stored",
    [
        "", "x", "argon2-hash", "$argon2id$v=19$m=8,t=1,p=1$", "$2b$12$abcdefghijklmnopqrstuv",
        # What an archive may bring: a terabyte of memory, a thousand passes, a weaker kind.
        CHEAP.hash("right").replace("m=8", "m=1073741824"),
        CHEAP.hash("right").replace("t=1", "t=1000"),
        CHEAP.hash("right").replace("argon2id", "argon2i"),
    ],
    # A hash has a salt: as an id it would name another test in every process.
    ids=["empty", "a letter", "a word", "cut off", "bcrypt", "memory", "passes", "argon2i"],
)  # fmt: skip
def test_a_hash_that_is_none_or_too_dear_opens_nothing_and_takes_no_time(stored: str) -> None:
    assert not verify_password(person(stored), CHEAP.hash("decoy"), "right")


def test_the_right_password_of_an_enabled_person_and_nothing_else() -> None:
    decoy, stored = CHEAP.hash("decoy"), CHEAP.hash("right")
    assert verify_password(person(stored), decoy, "right")
    assert not verify_password(person(stored), decoy, "wrong")
    assert not verify_password(person(stored, enabled=False), decoy, "right")
    # Not even what the decoy was made of.
    assert not verify_password(None, decoy, "decoy")
    assert not verify_password(person(None), decoy, "decoy")
