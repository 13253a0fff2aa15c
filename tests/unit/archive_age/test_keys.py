"""Keys: who may stand beside whom, passphrases, and that no secret shows."""

import io
import traceback

import pytest

from shared.archive.age import (
    DecryptReader,
    EncryptWriter,
    HybridIdentity,
    HybridRecipient,
    Identity,
    Passphrase,
    Recipient,
    X25519Identity,
    check_mixing,
    recipient_fingerprint,
    seal,
)
from shared.archive.age.header import Stanza, read_header
from shared.archive.age.scrypt import MAX_WORK_FACTOR, WORK_FACTOR
from shared.errors import AgeHeaderInvalid, SecrynError, UsageError, WrongKeyOrHeader
from tests.unit.archive_age.keys import IDENTITY, PASSPHRASE, RECIPIENT, opened, sealed

HYBRID = HybridIdentity(bytes(range(32)))
CLASSIC = X25519Identity(b"\x07" * 32)


def by_passphrase(data: bytes, passphrase: Passphrase) -> bytes:
    return DecryptReader(io.BytesIO(data), [passphrase], allow_scrypt=True).read()


class TestMixing:
    @pytest.mark.parametrize(
        "recipients",
        [
            [RECIPIENT],
            [RECIPIENT, CLASSIC.to_recipient()],
            [HYBRID.to_recipient()],
            [HYBRID.to_recipient(), HybridIdentity(bytes(32)).to_recipient()],
            [PASSPHRASE],
        ],
    )
    def test_recipients_of_one_kind_stand_together(self, recipients: list[Recipient]) -> None:
        check_mixing(recipients)

    @pytest.mark.parametrize(
        "recipients",
        [
            [HYBRID.to_recipient(), RECIPIENT],
            [RECIPIENT, HYBRID.to_recipient()],
            [HYBRID.to_recipient(), HYBRID.to_recipient(), RECIPIENT],
            [PASSPHRASE, RECIPIENT],
            [PASSPHRASE, HYBRID.to_recipient()],
            [PASSPHRASE, PASSPHRASE],
            [],
        ],
    )
    def test_others_are_refused_before_a_byte_is_written(self, recipients: list[Recipient]) -> None:
        sink = io.BytesIO()
        with pytest.raises(UsageError):
            EncryptWriter(sink, recipients)
        assert sink.getvalue() == b""

    @pytest.mark.parametrize("position", [0, 1])
    def test_each_recipient_opens_the_file(self, position: int) -> None:
        identities = [IDENTITY, CLASSIC]
        data = seal(b"for both", [identity.to_recipient() for identity in identities])
        assert opened(data, identities[position]) == b"for both"
        assert opened(data, X25519Identity(bytes(32)), identities[position]) == b"for both"

    def test_a_post_quantum_key_opens_its_file_and_no_other(self) -> None:
        data = seal(b"content", [HYBRID.to_recipient()])
        assert opened(data, HYBRID) == b"content"
        with pytest.raises(WrongKeyOrHeader):
            opened(data, HybridIdentity(bytes(32)))
        with pytest.raises(WrongKeyOrHeader):
            opened(data, IDENTITY)


class TestPassphrase:
    def test_it_opens_what_it_sealed(self) -> None:
        assert by_passphrase(seal(b"content", [PASSPHRASE]), PASSPHRASE) == b"content"

    @pytest.mark.parametrize("wrong", [b"", b"correct horse batterx", b"correct horse battery "])
    def test_another_passphrase_is_told_as_a_wrong_key(self, wrong: bytes) -> None:
        with pytest.raises(WrongKeyOrHeader):
            by_passphrase(seal(b"", [PASSPHRASE]), Passphrase(wrong, work_factor=1))

    def test_a_file_for_a_passphrase_is_refused_unless_allowed(self) -> None:
        data = seal(b"content", [PASSPHRASE])
        for identity in (PASSPHRASE, IDENTITY):
            with pytest.raises(AgeHeaderInvalid, match="passphrase"):
                DecryptReader(io.BytesIO(data), [identity])

    def test_a_key_does_not_open_a_file_for_a_passphrase(self) -> None:
        with pytest.raises(WrongKeyOrHeader):
            DecryptReader(io.BytesIO(seal(b"", [PASSPHRASE])), [IDENTITY], allow_scrypt=True)

    def test_a_passphrase_does_not_open_a_file_for_a_key(self) -> None:
        with pytest.raises(WrongKeyOrHeader):
            by_passphrase(sealed(b""), PASSPHRASE)

    def test_a_file_that_asks_for_too_much_work_is_refused_at_once(self) -> None:
        stanza = PASSPHRASE.wrap(bytes(16))
        for work_factor in (MAX_WORK_FACTOR + 1, 99):
            greedy = Stanza(stanza.type, (stanza.arguments[0], str(work_factor)), stanza.body)
            with pytest.raises(AgeHeaderInvalid, match="more work"):
                PASSPHRASE.unwrap([greedy])

    @pytest.mark.parametrize("work_factor", ["0", "01", "-1", "1e1", "", "100", "\u0661"])
    def test_a_malformed_work_factor_is_refused(self, work_factor: str) -> None:
        stanza = PASSPHRASE.wrap(bytes(16))
        malformed = Stanza(stanza.type, (stanza.arguments[0], work_factor), stanza.body)
        with pytest.raises(AgeHeaderInvalid):
            PASSPHRASE.unwrap([malformed])

    def test_a_passphrase_beside_another_stanza_is_refused(self) -> None:
        stanzas = [PASSPHRASE.wrap(bytes(16)), RECIPIENT.wrap(bytes(16))]
        with pytest.raises(AgeHeaderInvalid, match="alone"):
            PASSPHRASE.unwrap(stanzas)

    def test_the_default_work_is_not_cheap(self) -> None:
        assert Passphrase(b"x").work_factor == WORK_FACTOR >= 18

    def test_it_has_no_text_form(self) -> None:
        with pytest.raises(UsageError):
            PASSPHRASE.encode()


class TestSecrets:
    @pytest.mark.parametrize("identity", [IDENTITY, HYBRID, PASSPHRASE])
    def test_no_secret_shows_in_a_repr(self, identity: Identity) -> None:
        shown = f"{identity!r} {identity} {[identity]} {identity!a}"
        for secret in secrets_of(identity):
            assert secret not in shown

    @pytest.mark.parametrize(
        ("identity", "recipient"),
        [(CLASSIC, RECIPIENT), (HYBRID, RECIPIENT), (Passphrase(b"wrong horse", 1), PASSPHRASE)],
    )
    def test_no_secret_shows_when_a_file_does_not_open(
        self, identity: Identity, recipient: Recipient
    ) -> None:
        data = seal(b"plaintext of ours", [recipient])
        with pytest.raises(SecrynError) as refused:
            DecryptReader(io.BytesIO(data), [identity], allow_scrypt=True)
        told = "".join(traceback.format_exception(refused.value)) + repr(refused.value.as_problem())
        for secret in secrets_of(identity):
            assert secret not in told

    def test_the_key_of_one_file_is_never_written(self) -> None:
        sink = io.BytesIO()
        writer = EncryptWriter(sink, [HYBRID.to_recipient()])
        proof = writer.proof_identity()
        writer.write(b"content")
        writer.close()
        assert opened(sink.getvalue(), proof) == b"content"
        file_key = HYBRID.unwrap(read_header(io.BytesIO(sink.getvalue())).stanzas)
        assert file_key is not None
        assert repr(file_key) not in repr(proof) + repr(writer)
        for refused in (proof.encode, proof.to_recipient):
            with pytest.raises(UsageError):
                refused()

    def test_the_key_of_one_file_opens_no_other(self) -> None:
        proof = EncryptWriter(io.BytesIO(), [RECIPIENT]).proof_identity()
        with pytest.raises(WrongKeyOrHeader):
            opened(sealed(b""), proof)

    def test_new_identities_differ(self) -> None:
        assert X25519Identity.generate() != X25519Identity.generate()
        assert HybridIdentity.generate() != HybridIdentity.generate()


class TestFingerprint:
    def test_it_is_of_the_recipient_text(self) -> None:
        text = RECIPIENT.encode()
        fingerprint = recipient_fingerprint(text)
        assert fingerprint == recipient_fingerprint(f" {text}\n")
        assert fingerprint.startswith("SHA256:")
        assert len(fingerprint) == len("SHA256:") + 43

    def test_it_differs_between_recipients(self) -> None:
        others: list[Recipient] = [RECIPIENT, CLASSIC.to_recipient(), HYBRID.to_recipient()]
        assert len({recipient_fingerprint(other.encode()) for other in others}) == len(others)

    def test_a_post_quantum_recipient_is_short_in_a_repr(self) -> None:
        assert len(repr(HYBRID.to_recipient())) < 100
        assert isinstance(HYBRID.to_recipient(), HybridRecipient)


def secrets_of(identity: Identity) -> list[str]:
    raw = next(value for value in vars(identity).values() if isinstance(value, bytes))
    forms = [repr(raw)[2:-1], raw.hex(), str(list(raw))]
    return forms if isinstance(identity, Passphrase) else [*forms, identity.encode()]
