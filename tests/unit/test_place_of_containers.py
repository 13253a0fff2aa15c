"""`secryn place init`: keys and passwords once, to each container its own, refusals by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tomli_w

from backup_service.projector.settings import ProjectorSettings
from backup_service.settings import BackupServiceSettings
from deploy.containers.place import HOME, make_place
from restore_service.settings import RestoreServiceSettings
from shared.errors import StackStateInvalid, UnknownSetting
from shared.settings import Section, load_settings

CONFIG = Path(__file__).parents[2] / "deploy/docker/place.toml"
FOLDERS = ("projector", "backup", "restore", "operator", "postgres", "kafka")


def made(folder: Path, wanted: Path | None = CONFIG, *, new_bootstrap: bool = False) -> None:
    make_place(folder, wanted, lambda _: None, new_bootstrap=new_bootstrap)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    made(tmp_path)
    return tmp_path


@pytest.fixture
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an operator's own file is to be."""
    return tmp_path_factory.mktemp("operator") / "wanted.toml"


def test_each_container_is_handed_its_own_and_no_other_ones(place: Path) -> None:
    def handed(name: str) -> set[str]:
        return {path.name for path in (place / name).rglob("*") if path.is_file()}

    own = {
        "projector": {
            "projector.toml", "token", "issuers.toml", "trusted-signers.toml",
            "kafka-projector.password", "postgres-secryn_projector.pass",
        },
        "backup": {
            "backup.toml", "token", "bootstrap", "issuers.toml", "trusted-signers.toml", "root.key",
            "backup-signing.key", "kafka-backup.password", "postgres-secryn_backup.pass",
        },
        "restore": {
            "restore.toml", "token", "bootstrap", "issuers.toml", "trusted-signers.toml", "root.key",
            "restore-signing.key", "kafka-restore.password", "postgres-secryn_restore.pass",
        },
        "postgres": {"superuser.password"},
        "kafka": {"server.properties", "cluster-id"},
    }  # fmt: skip
    assert {name: handed(name) for name in own} == own


def test_whatever_is_handed_out_is_closed_to_others(place: Path) -> None:
    for path in place.rglob("*"):
        assert path.stat().st_mode & 0o007 == 0 or path.parent == place, path


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("projector", ProjectorSettings),
        ("backup", BackupServiceSettings),
        ("restore", RestoreServiceSettings),
    ],
)
def test_a_process_takes_the_settings_that_it_is_handed(
    place: Path, name: str, model: type[Section]
) -> None:
    # The container sees its folder under another name, and no data folder of a database around it.
    text = (place / name / f"config/{name}.toml").read_text(encoding="utf-8")
    assert f'"{HOME}/' in text
    here = place / f"{name}.toml"
    here.write_text(text.replace(f'"{HOME}/', f'"{place}/{name}/'), encoding="utf-8")
    assert load_settings(model, here, {})


def test_making_it_again_changes_nothing(place: Path) -> None:
    before = files(place)
    made(place)
    assert files(place) == before


def test_a_setting_that_is_taken_out_again_is_not_in_force_any_more(
    place: Path, wanted: Path
) -> None:
    before = files(place)
    extra = (
        '[settings.restore.restore]\nhashers = 1\n[settings.backup.web]\nbackup_url = "https://b"\n'
    )
    wanted.write_text(CONFIG.read_text() + extra)
    made(place, wanted)
    assert files(place) != before
    # Without a file the place stays as it is; with one, the file decides.
    now = files(place)
    made(place, None)
    assert files(place) == now
    made(place)
    assert files(place) == before


def test_containers_find_each_other_without_a_word_about_where(place: Path, wanted: Path) -> None:
    before = files(place)
    wanted.write_text('environment = "main"\nenvironment_kind = "production"\n')
    made(place, wanted)
    assert files(place) == before


def test_one_host_of_an_operator_leaves_the_others_as_they_are(place: Path, wanted: Path) -> None:
    wanted.write_text('[hosts]\npostgres = "store"\n')
    made(place, wanted)
    assert "host=store port=5432" in (place / "backup/config/backup.toml").read_text()
    assert 'bootstrap = "kafka:9092"' in (place / "backup/config/backup.toml").read_text()


def test_another_bootstrap_credential_is_made_when_it_is_asked_for(place: Path) -> None:
    before = files(place)
    made(place, new_bootstrap=True)
    changed = {name for name, content in files(place).items() if before[name] != content}
    assert changed == {
        "master/bootstrap", "backup/bootstrap", "restore/bootstrap", "operator/bootstrap",
    }  # fmt: skip


def test_what_was_handed_out_and_lost_is_the_same_again(place: Path) -> None:
    before = files(place)
    shutil.rmtree(place / "backup")
    (place / "backup").mkdir()
    made(place)
    assert files(place) == before


def test_new_keys_are_not_made_over_those_that_are_in_use(place: Path) -> None:
    shutil.rmtree(place / "master")
    before = files(place)
    with pytest.raises(StackStateInvalid, match="the root key of another place") as refused:
        made(place)
    assert "Bring the volume of the place back" in refused.value.advice
    after = files(place)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"enviroment": "main"}, "enviroment: "),
        ({"ports": {"bakcup": 1}}, r"ports\.bakcup: "),
        ({"ports": {"backup": 9092, "kafka": 9092}}, "two parts have the same port"),
        ({"instance_id": "x"}, "instance_id is made, never chosen"),
        ({"postgres": {"url": "postgresql://h/d"}}, "needs no container of ours"),
        ({"environment_kind": "prod"}, "environment_kind: "),
        ({"hosts": "postgres"}, "hosts: "),
    ],
)
def test_what_an_operator_got_wrong_is_refused_by_name(
    tmp_path: Path, wanted: Path, document: dict[str, object], told: str
) -> None:
    wanted.write_text(tomli_w.dumps(document), encoding="utf-8")
    with pytest.raises(UnknownSetting, match=told):
        made(tmp_path / "place", wanted)
