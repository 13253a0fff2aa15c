"""The sample's parts: seeded values repeat, key material does not, the bundle is read whole."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from shared.instance.sample import material, names, values


@pytest.mark.parametrize("kind", values.KINDS)
def test_a_value_repeats_for_the_same_seed_only(kind: str) -> None:
    make = values.KINDS[kind]
    assert [make(Random(7)) for _ in range(2)] == [make(Random(7))] * 2
    assert len({make(Random(seed)) for seed in range(20)}) > 3


def test_documents_are_what_they_claim() -> None:
    for seed in range(20):
        assert "beschreibung" in json.loads(values.document(Random(seed)))
        assert values.pem(Random(seed)).startswith(b"-----BEGIN LICENSE KEY-----\n")
        assert b"DATABASE_URL=" in values.dotenv(Random(seed))


def test_every_kind_is_drawn() -> None:
    rng = Random(1)
    assert {values.draw_kind(rng) for _ in range(2000)} == set(values.KINDS)


def test_the_whole_bundle_is_read_under_names_of_its_own() -> None:
    bundle = material.bundle()
    text = Path(certifi.where()).read_text(encoding="utf-8")
    expected = [
        ssl.PEM_cert_to_DER_cert(
            "-----BEGIN CERTIFICATE-----" + part.split("-----END")[0] + "-----END CERTIFICATE-----"
        )
        for part in text.split("-----BEGIN CERTIFICATE-----")[1:]
    ]
    assert [entry.facts.der for entry in bundle] == expected
    assert len({entry.name for entry in bundle}) == len(bundle)


@pytest.mark.parametrize("algorithm", material.ALGORITHMS)
def test_keys_are_real_and_masked(algorithm: str) -> None:
    pair = material.make_key(algorithm, 0)
    assert repr(pair) == f"KeyPair({algorithm})"
    if pair.public is None:
        assert len(pair.private) == 32
    else:
        private = load_der_private_key(pair.private, password=None)
        assert private.public_key() == load_der_public_key(pair.public)


def test_only_rsa_keys_are_served_again() -> None:
    for algorithm in material.ALGORITHMS:
        pairs = {material.make_key(algorithm, draw).private for draw in range(6)}
        assert len(pairs) == (material.RSA_KEYS if algorithm == "RSA-2048" else 6)


def test_an_issued_certificate_verifies_against_its_authority() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    authority = material.Authority("Beispiel-CA", now)
    pair = material.make_key("EC-P256", 0)
    facts = authority.issue("größe.example.org", pair, now, days=90)
    root = x509.load_der_x509_certificate(authority.root.der)
    leaf = x509.load_der_x509_certificate(facts.der)
    leaf.verify_directly_issued_by(root)
    private = load_der_private_key(pair.private, password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert leaf.public_key() == private.public_key()
    assert (facts.not_after - facts.not_before).days == 90


def test_other_seeds_and_copies_have_other_names() -> None:
    assert names.suffix(1, 0) == ""
    assert len({names.suffix(seed, copy) for seed in range(1, 4) for copy in range(4)}) == 12
    people = [names.person(number, "") for number in range(500)]
    assert len({person.username for person in people}) == 500
    assert any(not person.display_name.isascii() for person in people)
