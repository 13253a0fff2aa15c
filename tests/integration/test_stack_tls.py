"""The embedded stack speaks TLS where its settings say so, and everything of it still finds it."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import tomli_w

from shared.errors import StackNotHealthy, UnavailableError
from tests.accessing import PASSWORD
from tests.certificates import Authority
from tests.plugins.stack import StackUnderTest

NAME = "backup.example.org"
SERVICES = ("projector", "backup", "restore")


def settings(folder: Path, files: tuple[Path, Path], ca_file: Path | None, host: str = "") -> Path:
    """Write settings by which all three speak TLS; ``host`` is where a browser finds the pages."""
    http = {"tls_cert_file": str(files[0]), "tls_key_file": str(files[1])}
    if ca_file is not None:
        http["tls_ca_file"] = str(ca_file)
    document: dict[str, dict[str, object]] = {name: {"http": http} for name in SERVICES}
    if host:
        web = {"backup_url": f"https://{host}:8470", "restore_url": f"https://{host}:8471"}
        document["backup"] |= {"web": web}
        document["restore"] |= {"web": web}
    target = folder / "settings.toml"
    target.write_text(tomli_w.dumps(document))
    return target


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "authority", "nobody.example.org")


def test_a_stack_with_a_certificate_is_reached_by_https_alone(
    new_stack: Callable[..., StackUnderTest], authority: Authority, tmp_path: Path
) -> None:
    stack, ca_file = new_stack(), authority.files[0]
    files = authority.sign(tmp_path / "leaf", "127.0.0.1")
    up = stack.up("--settings", str(settings(tmp_path, files, ca_file)))
    assert up["healthy"]
    shown = json.loads(stack.secryn("status").stdout)
    urls = {name: shown[f"{name}_url"] for name in SERVICES}
    assert all(url.startswith("https://127.0.0.1:") for url in urls.values())
    endpoints = {found["name"]: found["endpoint"] for found in shown["processes"]}
    assert {name: endpoints[name] for name in SERVICES} == urls
    assert shown["protection"] is not None
    # The command line: verified, with the authority of the settings.
    created = json.loads(stack.secryn("backup", "create", "--wait").stdout)
    assert created["state"] == "created"
    for name in SERVICES:
        with pytest.raises(httpx.TransportError):
            httpx.get(urls[name].replace("https", "http") + "/healthz", trust_env=False)
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(urls[name] + "/healthz", trust_env=False)
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text(PASSWORD)
    stack.secryn("admin", "create", "anna", "--password-file", str(password))
    _look_at_the_pages(urls["backup"], urls["restore"], ca_file)


def _look_at_the_pages(backup: str, restore: str, ca_file: Path) -> None:
    """Sign in at one service and be known at the other, with cookies that are secure."""
    trusting = ssl.create_default_context(cafile=ca_file)
    with httpx.Client(verify=trusting, trust_env=False) as browser:
        page = browser.get(f"{backup}/admin/sign-in")
        assert page.headers["Strict-Transport-Security"].startswith("max-age=")
        form = {"name": "anna", "password": PASSWORD}
        entered = browser.post(f"{backup}/admin/sign-in", data=form, headers={"Origin": backup})
        assert entered.status_code == 303
        cookie = entered.headers["Set-Cookie"]
        assert cookie.startswith("__Host-secryn-session-")
        assert {"Secure", "HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
        for url in (f"{backup}/admin/backups", f"{restore}/admin/restore/"):
            page = browser.get(url)
            assert (page.status_code, "anna" in page.text) == (200, True)
            assert page.headers["Strict-Transport-Security"].startswith("max-age=")
            # Where the pages lead is https, too.
            assert not re.findall(r"http://[^\"]+", page.text)
            assert f'href="{restore}/admin/restore"' in page.text


def test_a_certificate_of_another_name_is_that_of_the_pages_and_a_strange_one_is_named(
    new_stack: Callable[..., StackUnderTest], authority: Authority, tmp_path: Path
) -> None:
    stack, ca_file = new_stack(), authority.files[0]
    files = authority.sign(tmp_path / "leaf", NAME)
    assert stack.up("--settings", str(settings(tmp_path, files, ca_file, NAME)))["healthy"]
    assert json.loads(stack.secryn("backup", "list").stdout)["backups"] == []
    stack.down()
    # The same certificate, and nobody says that it is of that name.
    refused = stack.refusal("up", "--settings", str(settings(tmp_path, files, ca_file)))
    assert refused["code"] == StackNotHealthy.code
    assert "its certificate is not believed" in refused["message"]
    said = stack.refusal("backup", "list")
    assert (said["code"], "--ca-file" in said["hint"]) == (UnavailableError.code, True)
    stack.down()
    # One that signs itself is believed as it stands; no file of an authority is needed.
    own = Authority.create(tmp_path / "own", "127.0.0.1")
    assert stack.up("--settings", str(settings(tmp_path, own.files, None)))["healthy"]
    stack.secryn("backup", "list")
