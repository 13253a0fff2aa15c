"""The keyring: what is sealed for one thing opens for nothing else, and no key ever shows."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import KeyringError, UnknownSetting
from shared.instance.keyring import (
    SEALED_OVERHEAD_BYTES,
    Keyring,
    Kind,
    RootKey,
    additional_data,
    check_value_of,
    new_data_key,
    rewrap,
)
from tests.plugins.hypothesis_profile import scaled

# RFC 3394, section 4.6: 256 bits of key data with a 256-bit key-encryption key.
RFC_KEK = bytes.fromhex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F")
RFC_DATA = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
RFC_WRAPPED = bytes.fromhex(
    "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"
)
ROOT = RootKey(RFC_KEK)
OTHER_ROOT = RootKey(bytes(32))
START = datetime(2026, 1, 1, tzinfo=UTC)
OWNER = UUID(int=7)


def row(purpose: str = "secrets", state: str = "active", age: int = 0) -> dict[str, Any]:
    """A row of table ``keyring``; the higher ``age``, the newer."""
    event = new_data_key(ROOT, purpose)
    return {
        "id": event.id,
        "purpose": purpose,
        "state": state,
        "wrapped": event.wrapped,
        "check_value": event.check_value,
        "created_at": START + timedelta(seconds=age),
    }


ROW = row()
KEYRING = Keyring.open([ROW], ROOT)


def seal(value: bytes = b"value", keyring: Keyring = KEYRING) -> bytes:
    return keyring.seal(value, "secrets", "secret", OWNER, 1)


class TestWrapping:
    def test_it_is_that_of_rfc_3394(self) -> None:
        assert ROOT.wrap(RFC_DATA) == RFC_WRAPPED
        assert ROOT.unwrap(RFC_WRAPPED, check_value_of(RFC_DATA)) == RFC_DATA

    def test_it_is_deterministic(self) -> None:
        data_key = bytes(range(32))
        assert ROOT.wrap(data_key) == ROOT.wrap(data_key)
        assert ROOT.wrap(data_key) != OTHER_ROOT.wrap(data_key)

    def test_another_root_key_does_not_open_it(self) -> None:
        with pytest.raises(KeyringError):
            OTHER_ROOT.unwrap(RFC_WRAPPED, check_value_of(RFC_DATA))
        with pytest.raises(KeyringError):
            Keyring.open([ROW], OTHER_ROOT)

    @pytest.mark.parametrize("position", range(0, 40, 5))
    def test_an_altered_one_does_not_open(self, position: int) -> None:
        altered = bytearray(RFC_WRAPPED)
        altered[position] ^= 1
        with pytest.raises(KeyringError):
            ROOT.unwrap(bytes(altered), check_value_of(RFC_DATA))

    @pytest.mark.parametrize("wrapped", [b"", b"x", RFC_WRAPPED[:-1], RFC_WRAPPED + bytes(8)])
    def test_one_of_another_length_does_not_open(self, wrapped: bytes) -> None:
        with pytest.raises(KeyringError):
            ROOT.unwrap(wrapped, check_value_of(RFC_DATA))

    def test_a_key_put_in_the_place_of_another_is_found(self) -> None:
        one, two = row(), row()
        with pytest.raises(KeyringError, match="check value"):
            Keyring.open([one | {"wrapped": two["wrapped"]}], ROOT)

    def test_wrapped_under_a_new_root_key_the_data_keys_stay_the_same(self) -> None:
        rows = [row(), row("settings")]
        event = rewrap(rows, ROOT, OTHER_ROOT)
        again = [entry | {"wrapped": event.wrapped[entry["id"]]} for entry in rows]
        assert event.root_key_id == OTHER_ROOT.id
        sealed = seal(keyring=Keyring.open(rows, ROOT))
        assert Keyring.open(again, OTHER_ROOT).unseal(sealed, "secret", OWNER, 1) == b"value"
        with pytest.raises(KeyringError):
            Keyring.open(again, ROOT)

    def test_a_new_data_key_names_its_root_key(self) -> None:
        event = new_data_key(ROOT, "secrets")
        assert event.root_key_id == ROOT.id
        assert event.purpose == "secrets"
        data_key = ROOT.unwrap(event.wrapped, event.check_value)
        assert len(data_key) == 32
        assert new_data_key(ROOT, "secrets").check_value != event.check_value


class TestSealing:
    @settings(max_examples=scaled(50))
    @given(st.binary(max_size=300), st.sampled_from(["secret", "key", "setting"]), st.integers(1))
    def test_what_is_sealed_opens_for_the_same_thing(
        self, value: bytes, kind: Kind, version: int
    ) -> None:
        sealed = KEYRING.seal(value, "secrets", kind, OWNER, version)
        assert KEYRING.unseal(sealed, kind, OWNER, version) == value
        assert len(sealed) == len(value) + SEALED_OVERHEAD_BYTES

    @pytest.mark.parametrize(
        ("kind", "owner", "version"),
        [
            ("key", OWNER, 1),
            ("setting", OWNER, 1),
            ("secret", UUID(int=8), 1),
            ("secret", "another", 1),
            ("secret", OWNER, 2),
            ("secret", OWNER, 0),
        ],
    )
    def test_it_opens_for_nothing_else(self, kind: Kind, owner: UUID | str, version: int) -> None:
        with pytest.raises(KeyringError, match="does not open"):
            KEYRING.unseal(seal(), kind, owner, version)

    def test_additional_data_names_kind_owner_and_version(self) -> None:
        assert additional_data("secret", OWNER, 3) == f"secryn:secret:{OWNER}:3".encode()

    @pytest.mark.parametrize("position", [17, 28, 29, 33, -17, -16, -1])
    def test_an_altered_value_does_not_open(self, position: int) -> None:
        altered = bytearray(seal())
        altered[position] ^= 1
        with pytest.raises(KeyringError, match="does not open"):
            KEYRING.unseal(bytes(altered), "secret", OWNER, 1)

    def test_a_value_of_another_format_is_told_as_such(self) -> None:
        sealed = seal(b"")
        for unknown in (b"", sealed[:-1], b"\x00" + sealed[1:], b"\x02" + sealed[1:]):
            with pytest.raises(KeyringError, match="format"):
                KEYRING.unseal(unknown, "secret", OWNER, 1)

    def test_a_value_under_a_key_that_is_not_there_is_told_as_such(self) -> None:
        sealed = bytearray(seal())
        sealed[1:17] = uuid4().bytes
        with pytest.raises(KeyringError, match="not in the keyring"):
            KEYRING.unseal(bytes(sealed), "secret", OWNER, 1)

    def test_a_value_moved_under_another_data_key_does_not_open(self) -> None:
        rows = [row(), row("settings")]
        keyring = Keyring.open(rows, ROOT)
        sealed = bytearray(seal(keyring=keyring))
        sealed[1:17] = rows[1]["id"].bytes
        with pytest.raises(KeyringError, match="does not open"):
            keyring.unseal(bytes(sealed), "secret", OWNER, 1)

    def test_the_same_value_is_never_sealed_alike(self) -> None:
        nonces = {seal()[17:29] for _ in range(100)}
        assert len(nonces) == 100
        assert seal() != seal()

    def test_values_read_from_a_database_may_be_memoryviews(self) -> None:
        viewed = {
            name: memoryview(value) if isinstance(value, bytes) else value
            for name, value in ROW.items()
        }
        keyring = Keyring.open([viewed], ROOT)
        assert keyring.unseal(seal(), "secret", OWNER, 1) == b"value"


class TestChoice:
    def test_the_newest_active_key_of_a_purpose_seals(self) -> None:
        old, new, other = row(age=1), row(age=2), row("settings", age=3)
        keyring = Keyring.open([new, other, old], ROOT)
        assert seal(keyring=keyring)[1:17] == new["id"].bytes
        assert keyring.purposes == {"secrets", "settings"}

    def test_a_retired_key_opens_and_does_not_seal(self) -> None:
        active, retired = row(age=1), row(age=2)
        sealed = seal(keyring=Keyring.open([active, retired], ROOT))
        keyring = Keyring.open([active, retired | {"state": "retired"}], ROOT)
        assert sealed[1:17] == retired["id"].bytes
        assert keyring.unseal(sealed, "secret", OWNER, 1) == b"value"
        assert seal(keyring=keyring)[1:17] == active["id"].bytes

    def test_without_an_active_key_nothing_is_sealed(self) -> None:
        keyring = Keyring.open([row(state="retired")], ROOT)
        assert keyring.purposes == frozenset()
        with pytest.raises(KeyringError, match="secrets"):
            seal(keyring=keyring)
        with pytest.raises(KeyringError, match="secrets"):
            seal(keyring=Keyring.open([], ROOT))


class TestRootKeyFile:
    def test_a_new_key_is_in_a_closed_file_and_read_again(self, tmp_path: Path) -> None:
        path = tmp_path / "root.key"
        key = RootKey.create(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert RootKey.load(path) == key
        with pytest.raises(FileExistsError):
            RootKey.create(path)
        assert RootKey.load(path) == key

    @pytest.mark.parametrize("content", [b"", b"zz" * 32, b"00" * 31, b"00" * 33, b"\xff" * 64])
    def test_a_file_that_is_no_key_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "root.key"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(UnknownSetting, match=r"root\.key") as refused:
            RootKey.load(path)
        assert refused.value.__cause__ is None

    def test_a_file_that_others_can_read_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "root.key"
        RootKey.create(path)
        path.chmod(0o640)
        with pytest.raises(UnknownSetting, match="read by others"):
            RootKey.load(path)

    def test_the_id_tells_keys_apart_and_nothing_else(self) -> None:
        assert ROOT.id != OTHER_ROOT.id
        assert len(ROOT.id) == 16
        assert ROOT.id not in RFC_KEK.hex()


class TestSecrets:
    def test_no_key_shows_in_a_repr(self) -> None:
        data_key = ROOT.unwrap(ROW["wrapped"], ROW["check_value"])
        for shown in (repr(ROOT), str(ROOT), repr(KEYRING), str(KEYRING), f"{[KEYRING, ROOT]}"):
            for key in (RFC_KEK, data_key):
                assert key.hex() not in shown
                assert repr(key)[2:-1] not in shown

    def test_a_refusal_shows_neither_value_nor_key(self) -> None:
        sealed = seal(b"hunter2-hunter2")
        with pytest.raises(KeyringError) as refused:
            KEYRING.unseal(sealed, "secret", OWNER, 2)
        told = f"{refused.value!r} {refused.value.as_problem()}"
        assert "hunter2" not in told
        assert sealed.hex() not in told
        assert refused.value.__cause__ is None
