"""Settings: refused at the start and by name, frozen, and nothing secret shows."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pydantic import ValidationError

from backup_service.projector.settings import ProjectorSettings
from backup_service.settings import BackupServiceSettings
from restore_service.settings import RestoreServiceSettings
from shared.errors import UnknownSetting
from shared.settings import (
    ENV_OF_NO_SETTING,
    HttpSettings,
    PostgresSettings,
    Section,
    load_settings,
)

SECRET = "hunter2-hunter2"
DSN = f"postgresql://backup:{SECRET}@127.0.0.1/secryn"


class Sample(Section):
    postgres: PostgresSettings
    http: HttpSettings


def sample() -> dict[str, Any]:
    return {"postgres": {"dsn": "host=h"}, "http": {"port": 80, "token_file": "/token"}}


def backup_document(folder: Path) -> dict[str, Any]:
    return {
        "postgres": {"dsn": "host=h"},
        "kafka": {"bootstrap": "127.0.0.1:9092"},
        "place": {
            "instance_id": "7f0c1a52-6d0f-4b0e-9f4a-0a3f4f1f6a11",
            "root_key_file": str(folder / "root.key"),
            "signing_key_file": str(folder / "signing.key"),
            "trusted_signers_file": str(folder / "signers.toml"),
            "issuers_file": str(folder / "issuers.toml"),
        },
        "http": {"port": 0, "token_file": str(folder / "token")},
        "storage": {"folder": str(folder / "objects")},
        "keys": {"folder": str(folder / "keys")},
    }


def written(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "settings.toml"
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    return path


def refusal(document: dict[str, Any], folder: Path, model: type[Section] = Sample) -> str:
    with pytest.raises(UnknownSetting) as refused:
        load_settings(model, written(folder, document), {})
    return refused.value.message


class TestFile:
    def test_a_file_is_read_into_frozen_sections(self, tmp_path: Path) -> None:
        settings = load_settings(Sample, written(tmp_path, sample()), {})
        assert settings.postgres.dsn == "host=h"
        assert settings.http.token_file == Path("/token")
        with pytest.raises(ValidationError):
            settings.postgres.dsn = "host=other"

    @pytest.mark.parametrize("section", ["postgres", "http", None])
    def test_an_unknown_name_is_refused_by_name(self, tmp_path: Path, section: str | None) -> None:
        document = sample()
        (document[section] if section else document)["colour"] = "red"
        assert f"{section}.colour:" if section else "colour:" in refusal(document, tmp_path)

    def test_every_fault_is_named_at_once(self, tmp_path: Path) -> None:
        document = {"postgres": {"pool_max": 0}, "http": {"port": 70_000, "threads": "many"}}
        told = refusal(document, tmp_path)
        for name in ("postgres.dsn", "postgres.pool_max", "http.port", "http.threads"):
            assert f"{name}: " in told
        assert "http.token_file: " in told

    @pytest.mark.parametrize(
        ("section", "field", "value"),
        [
            ("http", "port", -1),
            ("http", "port", 65_536),
            ("http", "threads", 1),
            ("postgres", "pool_max", 101),
            ("postgres", "connect_timeout_s", 0),
        ],
    )
    def test_a_value_out_of_its_bounds_is_refused_by_name(
        self, tmp_path: Path, section: str, field: str, value: int
    ) -> None:
        document = sample()
        document[section][field] = value
        assert f"{section}.{field}: " in refusal(document, tmp_path)

    def test_a_file_that_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownSetting, match=r"nothing\.toml"):
            load_settings(Sample, tmp_path / "nothing.toml", {})

    @pytest.mark.parametrize("content", [b"a = ", b"[a]\n[a]\n", b"\xff\xfe"])
    def test_a_file_that_is_not_toml_is_named(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "settings.toml"
        path.write_bytes(content)
        with pytest.raises(UnknownSetting, match=r"settings\.toml"):
            load_settings(Sample, path, {})

    def test_a_file_that_is_a_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownSetting, match=tmp_path.name):
            load_settings(Sample, tmp_path, {})


class TestEnvironment:
    def test_the_environment_wins(self, tmp_path: Path) -> None:
        environ = {"SECRYN_HTTP__PORT": "8080", "SECRYN_POSTGRES__DSN": "host=other"}
        settings = load_settings(Sample, written(tmp_path, sample()), environ)
        assert (settings.http.port, settings.postgres.dsn) == (8080, "host=other")

    def test_the_environment_alone_is_enough(self) -> None:
        environ = {
            "SECRYN_HTTP__PORT": "8080",
            "SECRYN_HTTP__TOKEN_FILE": "/token",
            "SECRYN_POSTGRES__DSN": "host=h",
        }
        assert load_settings(Sample, None, environ).http.port == 8080

    @pytest.mark.parametrize("name", ["SECRYN_HTTP__COLOUR", "SECRYN_COLOUR", "SECRYN_A__B__C"])
    def test_an_unknown_name_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UnknownSetting, match=r"colour|a\.|a:"):
            load_settings(Sample, written(tmp_path, sample()), {name: "1"})

    def test_a_name_below_a_plain_value_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownSetting, match="SECRYN_HTTP__PORT__NUMBER"):
            load_settings(Sample, written(tmp_path, sample()), {"SECRYN_HTTP__PORT__NUMBER": "1"})

    def test_names_of_others_and_of_the_command_line_are_left_alone(self, tmp_path: Path) -> None:
        environ = dict.fromkeys(ENV_OF_NO_SETTING, "x") | {"PATH": "x", "POSTGRES__DSN": "x"}
        settings = load_settings(Sample, written(tmp_path, sample()), environ)
        assert settings.postgres.dsn == "host=h"


class TestContradictions:
    @pytest.mark.parametrize(
        ("storage", "keys"),
        [
            ("objects", "objects"),
            ("objects", "objects/keys"),
            ("objects/backups", "objects"),
            ("objects", "other/../objects/keys"),
        ],
    )
    def test_keys_that_lie_beside_the_backups_are_refused(
        self, tmp_path: Path, storage: str, keys: str
    ) -> None:
        document = backup_document(tmp_path)
        document["storage"]["folder"] = str(tmp_path / storage)
        document["keys"]["folder"] = str(tmp_path / keys)
        told = refusal(document, tmp_path, BackupServiceSettings)
        assert "keys.folder" in told
        assert "storage.folder" in told

    def test_a_link_does_not_hide_that(self, tmp_path: Path) -> None:
        (tmp_path / "objects").mkdir()
        (tmp_path / "keys").symlink_to(tmp_path / "objects", target_is_directory=True)
        told = refusal(backup_document(tmp_path), tmp_path, BackupServiceSettings)
        assert "keys.folder" in told

    def test_nor_does_a_link_on_the_way_there(self, tmp_path: Path) -> None:
        (tmp_path / "objects").mkdir()
        (tmp_path / "elsewhere").symlink_to(tmp_path / "objects", target_is_directory=True)
        document = backup_document(tmp_path)
        document["keys"]["folder"] = str(tmp_path / "elsewhere" / "not made yet")
        assert "beside the backups" in refusal(document, tmp_path, BackupServiceSettings)

    def test_nor_does_a_second_mount_of_the_same_folder(self, tmp_path: Path) -> None:
        (tmp_path / "objects").mkdir()
        (tmp_path / "keys").mkdir()
        mounting = ["mount", "--bind", str(tmp_path / "objects"), str(tmp_path / "keys")]
        if subprocess.run(mounting, capture_output=True, check=False).returncode:
            pytest.skip("this machine lets nobody mount")
        try:
            told = refusal(backup_document(tmp_path), tmp_path, BackupServiceSettings)
        finally:
            subprocess.run(["umount", str(tmp_path / "keys")], check=True)
        assert "beside the backups" in told

    def test_keys_in_the_folder_of_a_database_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "PG_VERSION").write_text("18")
        document = backup_document(tmp_path)
        document["keys"]["folder"] = str(tmp_path / "data" / "base" / "keys")
        assert "PostgreSQL" in refusal(document, tmp_path, BackupServiceSettings)

    def test_sibling_folders_are_taken(self, tmp_path: Path) -> None:
        document = backup_document(tmp_path)
        document["keys"]["folder"] = str(tmp_path / "objects-keys")
        settings = load_settings(BackupServiceSettings, written(tmp_path, document), {})
        assert settings.backup.key_type == "mlkem768x25519"

    @pytest.mark.parametrize("key_type", ["x448", "scrypt", "", "X25519"])
    def test_an_unknown_kind_of_key_is_refused(self, tmp_path: Path, key_type: str) -> None:
        document = backup_document(tmp_path) | {"backup": {"key_type": key_type}}
        assert "backup.key_type: " in refusal(document, tmp_path, BackupServiceSettings)


class TestSecrets:
    def test_a_password_in_a_connection_string_is_in_no_repr(self) -> None:
        settings = PostgresSettings(dsn=DSN)
        assert settings.dsn == DSN
        assert SECRET not in f"{settings!r} {settings}"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("SECRYN_POSTGRES__PASSWORD", SECRET),
            ("SECRYN_HTTP__PORT", SECRET),
            ("SECRYN_HTTP__TOKEN", SECRET),
            ("SECRYN_HTTP", SECRET),
        ],
    )
    def test_a_refusal_never_repeats_the_value(self, tmp_path: Path, name: str, value: str) -> None:
        with pytest.raises(UnknownSetting) as refused:
            load_settings(Sample, written(tmp_path, sample()), {name: value})
        assert SECRET not in f"{refused.value} {refused.value.as_problem()}"
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__

    @pytest.mark.parametrize(
        "model", [BackupServiceSettings, RestoreServiceSettings, ProjectorSettings]
    )
    def test_a_setting_names_a_secrets_file_and_never_holds_the_secret(
        self, model: type[Section]
    ) -> None:
        suspicious = ("password", "passphrase", "secret", "token", "private", "root_key", "signing")
        found = {
            name: field.annotation
            for section in model.model_fields.values()
            if isinstance(section.annotation, type) and issubclass(section.annotation, Section)
            for name, field in section.annotation.model_fields.items()
            if any(word in name for word in suspicious)
        }
        assert found
        assert all(name.endswith("_file") for name in found)
        assert set(found.values()) <= {Path, Path | None}
