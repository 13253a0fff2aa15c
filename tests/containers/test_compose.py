"""docker-compose.yml, really run: the story of `make demo`, over and over, whatever dies."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import OURS, Engine, build_ours, ensure_servers
from tests.containers.project import LONG_RUNNING, Project, documented

OURS_RUNNING = ("projector", "backup_service", "restore_service")
ENVIRONMENT = ("--environment", "main", "--yes")


@pytest.fixture(scope="module")
def project(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    build_ours(engine)
    print(f"images: {OURS}, {ensure_servers(engine)}")
    found = Project(engine, tmp_path_factory.mktemp("compose"))
    try:
        found.up()
        yield found
    finally:
        found.down()


def backed_up(project: Project) -> tuple[dict[str, Any], Path]:
    """Make a backup; return it and the file of its key."""
    key_file = project.folder / f"{secrets.token_hex(4)}.key"
    made = project.secryn("backup", "create", "--wait", "--key-file", str(key_file))
    return made, key_file


def tell_the_story(project: Project) -> None:
    """Back up, damage, restore: the instance is what it was."""
    instance = project.secryn("status")["instance_id"]
    before = project.secryn("instance", "digest")
    made, key_file = backed_up(project)
    project.inside("sample", "write", "--rate", "200", "--seconds", "1", "--seed", seed())
    assert project.secryn("instance", "digest")["digest"] != before["digest"]
    restored = project.secryn(
        *("restore", "run", "--backup", made["backup_id"], "--key-file", str(key_file)),
        *("--instance", instance, *ENVIRONMENT),
    )
    assert restored["state"] == "restored"
    assert project.secryn("instance", "digest")["digest"] == before["digest"]


def seed() -> str:
    return str(secrets.randbelow(10**6) + 2)


@pytest.fixture(scope="module")
def told(project: Project) -> str:
    """The story as the documents tell it, which fills the instance; what its lines printed."""
    return project.follow(
        documented("README.md", "compose") + documented("docs/containers.md", "story")
    )


@pytest.fixture(scope="module")
def example_secret(told: str) -> str:
    found = re.search(r"secryn instance secret '(.+)'", told)
    assert found is not None
    return found[1]


def test_the_story_holds_as_the_documents_tell_it(project: Project, told: str) -> None:
    before, damaged, after = re.findall(r"^(\S+)  at offset \d+$", told, re.MULTILINE)
    assert before == after != damaged
    for name in ("operator.token", "backup.key"):
        assert (project.folder / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_a_killed_container_comes_back_and_the_story_holds(
    project: Project, told: str, service: str
) -> None:
    project.kill(service)
    project.wait_healthy()
    tell_the_story(project)


def test_a_stop_is_heard_and_what_is_in_hand_ends(project: Project, told: str) -> None:
    asked = project.secryn("backup", "create")
    project.compose("stop", *OURS_RUNNING)
    assert {project.container(service)["State"]["ExitCode"] for service in OURS_RUNNING} == {0}
    project.compose("start", *OURS_RUNNING)
    project.wait_healthy()
    ended = project.secryn("backup", "show", asked["backup_id"])
    assert ended["state"] in ("created", "failed")


def test_containers_are_closed(project: Project) -> None:
    for service in OURS_RUNNING:
        found = project.container(service)
        host = found["HostConfig"]
        assert found["Config"]["User"] == "10001:10001"
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["Memory"] > 0
        written = project.compose("exec", "-T", service, "touch", "/opt/secryn/x", check=False)
        assert written.returncode != 0


def test_no_secret_is_in_an_environment_an_argument_or_the_image(project: Project) -> None:
    held = secrets_of(project)
    assert len(held) > 10
    told = [json.dumps(project.container(service)) for service in LONG_RUNNING]
    told += [project.engine.run("history", "--no-trunc", OURS).stdout]
    told += [project.engine.run("inspect", OURS).stdout]
    told += [project.compose("config").stdout, project.compose("logs", "--no-color").stdout]
    told += [environment for service in LONG_RUNNING for environment in running(project, service)]
    assert not [name for name, value in held.items() if any(value in text for text in told)]


def running(project: Project, service: str) -> list[str]:
    """Return the environment of every process of a container, as the machine's root reads it."""
    container = project.container(service)
    listed = project.engine.run("top", container["Id"], "-eo", "pid").stdout.split()[1:]
    found = [Path(f"/proc/{pid}/environ").read_text().replace("\0", "\n") for pid in listed]
    assert any("PATH=" in each for each in found), service
    return found


def test_each_container_has_its_own_credentials_alone(project: Project) -> None:
    credentials = {
        service: set(
            project.compose("exec", "-T", service, "ls", "/secryn/credentials").stdout.split()
        )
        for service in OURS_RUNNING
    }
    assert credentials == {
        "projector": {"kafka-projector.password", "postgres-secryn_projector.pass"},
        "backup_service": {"kafka-backup.password", "postgres-secryn_backup.pass"},
        "restore_service": {"kafka-restore.password", "postgres-secryn_restore.pass"},
    }
    keys = project.compose("exec", "-T", "projector", "ls", "/secryn/keys").stdout.split()
    assert keys == ["issuers.toml", "trusted-signers.toml"]


def test_making_the_place_again_changes_nothing(project: Project) -> None:
    before = secrets_of(project)
    for service in ("keys", "servers"):
        project.compose("run", "--rm", "-T", "--no-deps", service)
    assert secrets_of(project) == before
    assert project.secryn("status")["healthy"]


def test_another_place_opens_the_file_and_nothing_stays_behind(
    project: Project, example_secret: str
) -> None:
    secret = project.inside("instance", "secret", example_secret)["value"]
    lost = project.secryn("instance", "digest")
    made, key_file = backed_up(project)
    archive = project.folder / "taken-away.age"
    project.secryn("backup", "download", made["backup_id"], "-o", str(archive))
    project.down()
    assert project.leftovers() == {}

    project.up()
    bare = project.secryn("status")["instance_id"]
    assert bare != lost["instance_id"]
    project.secryn(
        *("restore", "run", "--file", str(archive), "--key-file", str(key_file)),
        *("--instance", bare, "--source-instance", lost["instance_id"], *ENVIRONMENT),
    )
    assert project.secryn("instance", "digest")["digest"] == lost["digest"]
    assert project.inside("instance", "secret", example_secret)["value"] == secret
    project.down()
    assert project.leftovers() == {}


def secrets_of(project: Project) -> dict[str, str]:
    """Return every secret of the place, by its file, as only the engine's own user can read them."""
    volume = f"{project.name}_place"
    listed = project.engine.run(
        *("run", "--rm", "--network=none", "--user=0", "--entrypoint=python"),
        *("-v", f"{volume}:/place:ro", OURS, "-c", _LIST_SECRETS),
    )
    found: dict[str, str] = json.loads(listed.stdout)
    return found


_LIST_SECRETS = """
import json, pathlib
root = pathlib.Path("/place")
files = [root / "token", *root.glob("credentials/*"), *root.glob("keys/*.key")]
print(json.dumps({str(f): f.read_text().strip().rsplit(":", 1)[-1] for f in files}))
"""
