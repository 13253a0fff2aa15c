"""docker-compose.yml and its page: what is promised of the containers stands in the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.containers.project import documented

ROOT = Path(__file__).parents[2]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
RUNNING = [name for name, service in SERVICES.items() if service["restart"] != "no"]
PAGE = (ROOT / "docs/containers.md").read_text(encoding="utf-8")


def mounted(service: str) -> dict[str, str]:
    """Return the volumes of a service, with how each is mounted."""
    split = [each.split(":") for each in SERVICES[service]["volumes"]]
    return {name: ":".join(rest) for name, *rest in split}


def test_every_image_of_ours_is_closed() -> None:
    assert set(OURS) == set(SERVICES) - {"postgres", "kafka"}
    for service in OURS.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_has_limits(name: str) -> None:
    assert set(SERVICES[name]["deploy"]["resources"]["limits"]) == {"cpus", "memory"}


def test_nothing_is_made_in_a_server_before_it_is_healthy() -> None:
    assert SERVICES["servers"]["depends_on"] == {
        name: {"condition": "service_healthy"} for name in ("postgres", "kafka")
    }


@pytest.mark.parametrize("name", RUNNING)
def test_whatever_stays_has_a_health_and_time_to_stop(name: str) -> None:
    service = SERVICES[name]
    assert service["stop_grace_period"]
    assert service["logging"]["options"]["max-size"]
    assert "healthcheck" in service or name in OURS
    waits = {each["condition"] for each in service["depends_on"].values()}
    assert waits == {"service_completed_successfully"}


def test_key_encryption_keys_are_away_from_the_backups() -> None:
    with_keks = [name for name in SERVICES if "key-encryption-keys" in str(SERVICES[name])]
    assert with_keks == ["backup_service"]
    assert mounted("backup_service")["backups"] == "/secryn/backups"
    assert mounted("backup_service")["key-encryption-keys"] == "/secryn/keks"
    assert mounted("restore_service")["backups"].endswith(":ro")


def test_each_container_reads_its_own_keys_alone() -> None:
    for name in (*RUNNING, "secryn"):
        keys = {volume: how for volume, how in mounted(name).items() if "keys-of" in volume}
        (how,) = keys.values()
        assert how.endswith(":ro,nocopy")
        assert "place" not in mounted(name)


def test_no_secret_is_in_the_environment() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|SECRET|TOKEN|KEY", name) or name.endswith("_FILE"), name
            assert not re.search("://[^/]*@", str(value))


def test_a_server_never_has_the_password_of_its_first_start() -> None:
    # `docker-entrypoint.sh` exports it and becomes the server; a process of its own ends with it.
    first, script, *_ = SERVICES["postgres"]["entrypoint"][1:]
    assert first == "-c"
    assert re.fullmatch(r'docker-ensure-initdb\.sh "\$\$@" && exec setpriv .* "\$\$@"', script)


def test_addresses_of_services_have_hosts_that_a_url_may_have() -> None:
    aliases = {
        name: f"http://{service['networks']['pages']['aliases'][0]}:"
        for name, service in SERVICES.items()
        if isinstance(service.get("networks"), dict)
    }
    told = SERVICES["secryn"]["environment"]
    assert told["SECRYN_URL"].startswith(aliases["backup_service"])
    assert told["SECRYN_RESTORE_URL"].startswith(aliases["restore_service"])
    assert not [url for url in aliases.values() if "_" in url]


def test_a_broker_without_memory_ends() -> None:
    assert "-XX:+ExitOnOutOfMemoryError" in SERVICES["kafka"]["environment"]["KAFKA_OPTS"]


def test_services_are_reached_from_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert FILE["networks"]["servers"]["internal"]


def test_the_page_names_every_container_every_volume_and_every_limit() -> None:
    for name in (*SERVICES, *FILE["volumes"]):
        assert f"`{name}`" in PAGE, name
    for name in SERVICES:
        limits = SERVICES[name]["deploy"]["resources"]["limits"]
        memory = re.sub("([mg])$", lambda m: {"m": " MiB", "g": " GiB"}[m[1]], limits["memory"])
        cores = f"{limits['cpus']} core{'s' if limits['cpus'] != '1' else ''}"
        assert re.search(rf"^\| `{name}` .*{cores}, {memory} \|$", PAGE, re.MULTILINE), name


def test_the_lines_of_the_documents_are_there_for_the_test_that_runs_them() -> None:
    assert "docker compose up" in documented("README.md", "compose")
    assert "restore run" in documented("docs/containers.md", "story")


def test_the_image_is_made_in_stages_from_hashes_and_runs_as_nobody_in_particular() -> None:
    lines = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
    build, _, final = lines.rpartition("\nFROM ")
    assert " AS build\n" in build
    assert build.count("--require-hashes") == 2
    assert "--only-binary :all:" in build
    assert "pip install" not in final
    assert "\nUSER 10001:10001\n" in final
    assert "\nHEALTHCHECK " in final
    assert '\nENTRYPOINT ["python", "-m"]\n' in final
