"""Signed messages and the keys that sign them: nothing can be changed, moved or left out."""

import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from shared.errors import SignatureInvalid, UnknownSetting
from shared.kafka import Record
from shared.messages import CloudEvent, Issuer, IssuerRegistry, PublicKey, SigningKey, sign, verify
from shared.messages.signing import ISSUER, SIGNATURE

# RFC 8032, section 7.1, test 3.
RFC_SEED = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"
RFC_PUBLIC = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
RFC_SIGNATURE = (
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)
KEY = SigningKey(bytes.fromhex(RFC_SEED))
OTHER = SigningKey(bytes(range(32)))
PLATFORM = Issuer("platform", KEY.public, frozenset({"create"}), frozenset({"SHA256:x"}))
REGISTRY = IssuerRegistry({"platform": PLATFORM, "other": Issuer("other", OTHER.public)})
EVENT = CloudEvent(
    "com.secryn.backup.create.v1", "secryn/platform", b'{"a":1}',
    subject="instance", extensions={"correlationid": "c-1", "causationid": "c-0"},
)  # fmt: skip
SIGNED = sign(EVENT, KEY, "platform")


def with_extension(event: CloudEvent, name: str, value: str | None) -> CloudEvent:
    kept = {key: text for key, text in event.extensions.items() if key != name}
    return replace(event, extensions=kept | ({} if value is None else {name: value}))


def moved_into_the_data(event: CloudEvent) -> CloudEvent:
    """The same characters one after another, divided otherwise; ``type`` stands last of all."""
    return replace(event, type=event.type[:-1], data=event.type[-1:].encode() + event.data)


def moved_into_the_name(event: CloudEvent) -> CloudEvent:
    """The same characters one after another: ``causationid=c-0`` or ``causationidc=-0``."""
    kept = {name: text for name, text in event.extensions.items() if name != "causationid"}
    value = event.extensions["causationid"]
    return replace(event, extensions=kept | {"causationid" + value[0]: value[1:]})


def swapped(event: CloudEvent) -> CloudEvent:
    return replace(
        event, extensions=dict(event.extensions) | {"correlationid": "c-0", "causationid": "c-1"}
    )


class TestVerify:
    def test_a_signed_message_tells_its_issuer_and_rights(self) -> None:
        assert verify(SIGNED, REGISTRY) == PLATFORM

    def test_it_survives_the_way_over_kafka(self) -> None:
        message = SIGNED.to_kafka()
        record = Record("t", 0, 0, 0, None, message.value, message.headers)
        assert verify(CloudEvent.from_kafka(record), REGISTRY) == PLATFORM

    @pytest.mark.parametrize(
        "altered",
        [
            pytest.param(replace(SIGNED, type="com.secryn.restore.create.v1"), id="type"),
            pytest.param(replace(SIGNED, source="secryn/x"), id="source"),
            pytest.param(replace(SIGNED, subject="another"), id="subject"),
            pytest.param(replace(SIGNED, subject=""), id="no subject"),
            pytest.param(replace(SIGNED, id=UUID(int=1)), id="id"),
            pytest.param(replace(SIGNED, time=SIGNED.time + timedelta(microseconds=1)), id="time"),
            pytest.param(replace(SIGNED, data=b'{"a":2}'), id="data"),
            pytest.param(replace(SIGNED, data=b""), id="no data"),
            pytest.param(with_extension(SIGNED, "correlationid", "c-2"), id="extension"),
            pytest.param(with_extension(SIGNED, "correlationid", None), id="no extension"),
            pytest.param(with_extension(SIGNED, "added", ""), id="added extension"),
            pytest.param(with_extension(SIGNED, ISSUER, "other"), id="issuer"),
            pytest.param(moved_into_the_data(SIGNED), id="moved into the data"),
            pytest.param(moved_into_the_name(SIGNED), id="moved into a name"),
            pytest.param(swapped(SIGNED), id="swapped attributes"),
        ],
    )
    def test_an_altered_message_is_refused(self, altered: CloudEvent) -> None:
        with pytest.raises(SignatureInvalid):
            verify(altered, REGISTRY)

    @pytest.mark.parametrize(
        "event",
        [
            pytest.param(EVENT, id="unsigned"),
            pytest.param(with_extension(SIGNED, SIGNATURE, None), id="without its signature"),
            pytest.param(with_extension(SIGNED, ISSUER, None), id="without its issuer"),
            pytest.param(sign(EVENT, KEY, "nobody"), id="of an unknown issuer"),
            pytest.param(sign(EVENT, KEY, ""), id="of no issuer"),
            pytest.param(sign(EVENT, OTHER, "platform"), id="forged with another's key"),
            pytest.param(with_extension(SIGNED, SIGNATURE, ""), id="an empty signature"),
            pytest.param(with_extension(SIGNED, SIGNATURE, "zz"), id="a signature not in hex"),
            pytest.param(with_extension(SIGNED, SIGNATURE, "00" * 64), id="zeros"),
            pytest.param(
                with_extension(SIGNED, SIGNATURE, SIGNED.extensions[SIGNATURE][:-2]), id="cut off"
            ),
            pytest.param(
                with_extension(SIGNED, SIGNATURE, SIGNED.extensions[SIGNATURE] + "00"), id="longer"
            ),
        ],
    )
    def test_all_of_them_are_refused_with_the_same_words(self, event: CloudEvent) -> None:
        with pytest.raises(SignatureInvalid) as refused:
            verify(event, REGISTRY)
        assert refused.value.message == "the message is not signed by a registered issuer"
        assert refused.value.__cause__ is None

    def test_every_single_changed_digit_of_a_signature_is_refused(self) -> None:
        signature = SIGNED.extensions[SIGNATURE]
        for position in range(0, len(signature), 7):
            other = "0" if signature[position] != "0" else "1"
            changed = signature[:position] + other + signature[position + 1 :]
            with pytest.raises(SignatureInvalid):
                verify(with_extension(SIGNED, SIGNATURE, changed), REGISTRY)

    def test_without_issuers_nobody_may_anything(self) -> None:
        with pytest.raises(SignatureInvalid):
            verify(SIGNED, IssuerRegistry())

    def test_signing_again_replaces_the_signature(self) -> None:
        again = sign(SIGNED, OTHER, "other")
        assert verify(again, REGISTRY).id == "other"
        assert verify(sign(again, KEY, "platform"), REGISTRY).id == "platform"


class TestRegistry:
    def test_issuers_are_read_with_their_rights(self, tmp_path: Path) -> None:
        path = tmp_path / "issuers.toml"
        path.write_text(
            f'[platform]\npublic_key = "{RFC_PUBLIC}"\n'
            'permissions = ["create"]\nrecipients = ["SHA256:x"]\n',
            encoding="utf-8",
        )
        assert IssuerRegistry.load(path).issuers == {"platform": PLATFORM}

    @pytest.mark.parametrize(
        "content",
        [
            b"[platform]\n",
            b'[platform]\npublic_key = "abc"\n',
            b'[platform]\npublic_key = "' + b"00" * 31 + b'"\n',
            b'[platform]\npublic_key = "' + b"00" * 32 + b'"\ncolour = "red"\n',
            b'[platform]\npublic_key = "' + b"00" * 32 + b'"\npermissions = "create"\n',
            b"platform = 1\n",
            b"[platform\n",
            b"\xff\xfe",
        ],
    )
    def test_a_malformed_file_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "issuers.toml"
        path.write_bytes(content)
        with pytest.raises(UnknownSetting):
            IssuerRegistry.load(path)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownSetting, match=r"issuers\.toml"):
            IssuerRegistry.load(tmp_path / "issuers.toml")


class TestKeys:
    def test_a_signature_is_that_of_rfc_8032(self) -> None:
        assert KEY.public.raw.hex() == RFC_PUBLIC
        assert KEY.sign(bytes.fromhex("af82")).hex() == RFC_SIGNATURE
        assert PublicKey.from_hex(RFC_PUBLIC).verifies(bytes.fromhex(RFC_SIGNATURE), b"\xaf\x82")
        assert not KEY.public.verifies(bytes.fromhex(RFC_SIGNATURE), b"\xaf\x83")

    def test_a_new_key_is_in_a_closed_file_and_read_again(self, tmp_path: Path) -> None:
        path = tmp_path / "signing.key"
        key = SigningKey.create(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert SigningKey.load(path) == key
        assert SigningKey.load(path).fingerprint == key.public.fingerprint
        with pytest.raises(FileExistsError):
            SigningKey.create(path)

    @pytest.mark.parametrize("content", [b"", b"zz" * 32, b"00" * 31, b"00" * 33, b"\xff" * 64])
    def test_a_file_that_is_no_key_is_refused_and_not_shown(
        self, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / "signing.key"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(UnknownSetting, match=r"signing\.key") as refused:
            SigningKey.load(path)
        assert refused.value.__cause__ is None
        assert not content or content[:8].decode("latin-1") not in refused.value.message

    def test_no_private_key_shows_in_a_repr(self) -> None:
        for shown in (repr(KEY), str(KEY), f"{[KEY]}"):
            assert RFC_SEED not in shown
            assert repr(bytes.fromhex(RFC_SEED))[2:-1] not in shown

    def test_fingerprints_tell_keys_apart(self) -> None:
        assert KEY.fingerprint.startswith("SHA256:")
        assert len(KEY.fingerprint) == len("SHA256:") + 43
        assert KEY.fingerprint != OTHER.fingerprint
