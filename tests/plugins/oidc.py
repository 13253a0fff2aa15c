"""A real OpenID Connect provider on loopback: npm's oidc-provider, one a session.

def test_it(oidc):
    oidc.issuer, oidc.settings(secret_file)
    oidc.come_back(address, "anna")          # the callback's address, as anna's browser gets it
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from deploy.embedded.process import free_ports
from serving.access.settings import OidcSettings
from shared.secretfiles import write_secret_file

INTEROP = Path(__file__).parents[1] / "interop"
REDIRECT = "http://localhost/api/v1/session/oidc/callback"
_ACTION = re.compile(r'<form[^>]* action="([^"]+)"')


@dataclass(frozen=True)
class TestProvider:
    """The provider that runs."""

    __test__ = False

    issuer: str
    secret: str

    def settings(self, folder: Path, **changes: object) -> OidcSettings:
        """Return the settings of the confidential client, or of another one."""
        file = folder / "client-secret"
        write_secret_file(file, self.secret.encode(), exist_ok=True)
        known = {"issuer": self.issuer, "client_id": "secryn", "redirect_url": REDIRECT}
        return OidcSettings.model_validate(known | {"client_secret_file": file} | changes)

    def come_back(self, address: str, account: str) -> str:
        """Sign ``account`` in at the provider; return where it then sends the browser."""
        with httpx.Client(trust_env=False, timeout=30) as browser:
            answer = browser.get(address)
            for _ in range(12):
                if answer.is_redirect:
                    target = urljoin(str(answer.url), answer.headers["Location"])
                    if target.startswith(REDIRECT):
                        return target
                    answer = browser.get(target)
                    continue
                found = _ACTION.search(answer.text)
                assert found, answer.text[:2000]
                prompt = "login" if 'name="login"' in answer.text else "consent"
                form = {"prompt": prompt, "login": account, "password": "any"}
                answer = browser.post(urljoin(str(answer.url), found[1]), data=form)
        pytest.fail("the provider does not send the browser back")


@pytest.fixture(scope="session")
def oidc() -> Iterator[TestProvider]:
    if shutil.which("node") is None or not (INTEROP / "node_modules/oidc-provider").exists():
        if os.environ.get("CI"):
            pytest.fail("npm's oidc-provider is missing: make test-deps")
        pytest.skip("npm's oidc-provider is missing: make test-deps")
    port, secret = free_ports(1)[0], secrets.token_urlsafe(16)
    process = subprocess.Popen(
        ["node", str(INTEROP / "oidc.mjs"), str(port), REDIRECT, secret],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield TestProvider(f"http://127.0.0.1:{port}", secret)
    finally:
        process.kill()
        process.wait()
