"""The lines of every day, as docs/containers.md gives them, each seen to do what is said beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.containers.engine import Engine, build_ours, ensure_servers
from tests.containers.project import LONG_RUNNING, Project, documented


@pytest.fixture(scope="module")
def project(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    build_ours(engine)
    ensure_servers(engine)
    found = Project(engine, tmp_path_factory.mktemp("day to day"))
    try:
        found.up()
        found.inside("sample", "write", "--rate", "50", "--seconds", "1")
        yield found
    finally:
        found.down()


@pytest.fixture(scope="module")
def lines() -> dict[str, str]:
    """Every command of the page by what it does first: ``ps``, ``down --volumes``."""
    text = documented("docs/containers.md", "day to day").replace("\\\n", "")
    commands = [re.sub(r"\s+#.*", "", line) for line in text.splitlines()]
    return {" ".join(command.split()[2:4]): command for command in commands}


def test_ps_shows_who_is_healthy(project: Project, lines: dict[str, str]) -> None:
    shown = project.follow(lines.pop("ps"))
    for service in LONG_RUNNING:
        assert re.search(rf"-{service}-.*\(healthy\)", shown), shown


def test_the_log_of_a_service_is_followed(project: Project, lines: dict[str, str]) -> None:
    # It ends with whoever reads it.
    command = lines.pop("logs --follow")
    shown = project.follow(f"timeout 5 {command} || [ $? = 124 ]")
    assert '"event": "service.started"' in shown


def test_a_changed_setting_is_in_force_and_one_that_is_taken_out_is_not(
    project: Project, lines: dict[str, str]
) -> None:
    command, first = lines.pop("up --detach"), project.wanted.read_text()
    sections = [f'[settings.{n}.place]\nenvironment = "second"\n' for n in ("backup", "restore")]
    for more, environment in (("\n".join(["", *sections]), "second"), ("", "main")):
        project.wanted.write_text(first + more)
        project.follow(command)
        assert environments(project) == {environment}


@pytest.mark.parametrize("going", ["stop", "down"])
def test_what_was_there_is_there_again_after(
    project: Project, lines: dict[str, str], going: str
) -> None:
    before = project.secryn("instance", "digest")["digest"]
    project.follow(lines.pop(going))
    left = {"stop": {"containers", "volumes", "networks"}, "down": {"volumes"}}[going]
    # Where containers share the host's network there is none of theirs.
    assert set(project.leftovers()) - {"networks"} == left - {"networks"}
    project.follow(lines["up --build"])
    assert project.secryn("instance", "digest")["digest"] == before


def test_everything_goes_with_the_volumes_and_a_bare_place_comes(
    project: Project, lines: dict[str, str]
) -> None:
    lost = project.secryn("status")["instance_id"]
    project.follow(lines.pop("down --volumes"))
    assert project.leftovers() == {}
    project.token.unlink()
    project.up()
    assert project.secryn("status")["instance_id"] != lost


def test_a_new_credential_takes_the_place_of_the_old_one(
    project: Project, lines: dict[str, str]
) -> None:
    old = credential(project)
    project.follow(lines.pop("run --rm"))
    new = credential(project)
    assert new != old
    password = project.folder / "password"
    password.write_text("a long one, for the first of them\n")
    password.chmod(0o600)
    create = ("admin", "create", "anna", "--password-file", str(password))
    refused = project.secryn(*create, token=stored(project, "old", old), check=False)
    assert refused["error"]["code"] == "access.unauthenticated"
    made = project.secryn(*create, token=stored(project, "new", new))
    assert made["username"] == "anna"


def test_no_line_of_the_page_was_left_out(lines: dict[str, str]) -> None:
    assert set(lines) == {"up --build"}


def environments(project: Project) -> set[str]:
    """Return where the two services say that they are."""
    headers = {"Authorization": f"Bearer {project.token.read_text().strip()}"}
    answers = [httpx.get(f"{url}/readyz", headers=headers, timeout=10) for url in project.urls]
    return {answer.json()["place"]["environment"] for answer in answers}


def credential(project: Project) -> str:
    """Return what the credential's file says, where backup_service reads it."""
    return project.compose("exec", "-T", "backup_service", "cat", "/secryn/bootstrap").stdout


def stored(project: Project, name: str, token: str) -> Path:
    path = project.folder / name
    path.write_text(token)
    path.chmod(0o600)
    return path
