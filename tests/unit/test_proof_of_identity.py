"""Who may see a key: the permission, and a proof of identity that is not old."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from serving.caller import OperatorToken
from serving.requester import Requester
from shared.errors import ProofNeeded
from shared.secretfiles import write_secret_file
from tests.clock import HandClock

MAX_AGE_S = 300
CLOCK = HandClock()
ANNA = Requester("anna", frozenset({"view_key"}), "http:test", "corr-1")


@pytest.mark.parametrize("age_s", [0, 1, MAX_AGE_S, -MAX_AGE_S])
def test_a_proof_counts_for_five_minutes(age_s: int) -> None:
    proven = replace(ANNA, proven_at=CLOCK.now() - timedelta(seconds=age_s))
    proven.require_proof(CLOCK.now(), MAX_AGE_S)


@pytest.mark.parametrize("age_s", [MAX_AGE_S + 0.001, 86_400, -MAX_AGE_S - 0.001])
def test_an_older_one_does_not_nor_one_from_another_time(age_s: float) -> None:
    proven = replace(ANNA, proven_at=CLOCK.now() - timedelta(seconds=age_s))
    with pytest.raises(ProofNeeded):
        proven.require_proof(CLOCK.now(), MAX_AGE_S)


def test_who_cannot_prove_it_is_let_through_only_where_nobody_is_there_to() -> None:
    with pytest.raises(ProofNeeded):
        ANNA.require_proof(CLOCK.now(), MAX_AGE_S)
    replace(ANNA, unattended=True).require_proof(CLOCK.now(), MAX_AGE_S)


def test_the_machines_own_token_is_proof(tmp_path: Path) -> None:
    write_secret_file(tmp_path / "token", b"secret")
    caller = OperatorToken(tmp_path / "token", CLOCK).authenticate("secret")
    assert caller is not None
    assert caller.proven_at == CLOCK.now()
    assert not caller.unattended
