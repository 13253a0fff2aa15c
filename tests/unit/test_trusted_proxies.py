"""Who a request is from: the socket's own address, unless a proxy that is trusted says another."""

from __future__ import annotations

import ssl
import threading
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask, jsonify, request
from pydantic import ValidationError

from cli.remote import Remote
from serving.access import Access
from serving.app import Readiness, create_app
from serving.caller import Caller
from serving.proxies import TrustedProxies
from serving.runtime import build_server
from shared.client import ServiceConnection
from shared.errors import UnavailableError, UnknownSetting
from shared.settings import HttpSettings
from tests.certificates import Authority

APP = Flask("test")
PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@APP.get("/")
def show() -> Any:
    return jsonify(address=request.remote_addr, secure=request.is_secure)


def asked(peer: str, **headers: str) -> Any:
    app = Flask("outer")
    app.wsgi_app = TrustedProxies(APP.wsgi_app, PROXIES)  # type: ignore[method-assign]
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return app.test_client().get("/", headers=named, environ_base={"REMOTE_ADDR": peer})


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        # What the client wrote itself stands to the left of what the proxy saw.
        ("10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.2.0.4, 10.0.0.9", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.7", "10.0.0.7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:10.0.0.1", "2001:db8::5", "2001:db8::5"),
        ("fd00::1", "2001:db8::5", "2001:db8::5"),
    ],
)
def test_the_nearest_address_that_is_no_proxy_counts(
    peer: str, forwarded: str, address: str
) -> None:
    assert asked(peer, X_Forwarded_For=forwarded).get_json()["address"] == address


def test_the_scheme_is_believed_of_a_trusted_proxy_alone() -> None:
    assert asked("10.0.0.1", X_Forwarded_Proto="https").get_json()["secure"]
    assert not asked("10.0.0.1", X_Forwarded_Proto="https, http").get_json()["secure"]
    assert not asked("192.0.2.1", X_Forwarded_Proto="https").get_json()["secure"]
    assert not asked("10.0.0.1", X_Forwarded_Proto="javascript").get_json()["secure"]


@pytest.mark.parametrize("forwarded", ["unknown", "198.51.100.1:80", "_hidden", "1.2.3"])
def test_a_proxy_that_sends_no_address_is_answered_by_nobody(forwarded: str) -> None:
    assert asked("10.0.0.1", X_Forwarded_For=forwarded).status_code == 400


def test_every_answer_says_how_it_may_be_used() -> None:
    class Nobody:
        def authenticate(self, _: str) -> Caller | None:
            return None

    access: Access | None = None
    app = create_app("test", Nobody(), Readiness(), access=access)
    for url, plain in (("/healthz", True), ("/nothing", True), ("/healthz", False)):
        base = "http://localhost" if plain else "https://localhost"
        headers = app.test_client().get(url, base_url=base).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert ("Strict-Transport-Security" in headers) is not plain


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate of the loopback that nobody else signed, and its key."""
    return Authority.create(folder, "127.0.0.1").files


def test_a_service_speaks_tls_by_its_settings_and_nothing_older_than_1_2(tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path)
    http = HttpSettings(
        port=0, token_file=tmp_path / "t", tls_cert_file=cert_file, tls_key_file=key_file
    )
    server = build_server("test", APP, http)
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        url = f"https://127.0.0.1:{server.bind_addr[1]}/"
        trusting = ssl.create_default_context(cafile=str(cert_file))
        assert httpx.get(url, verify=trusting, trust_env=False).json()["secure"]
        with ServiceConnection(url, "t", trusted=Remote(ca_file=cert_file).trusted()) as ours:
            assert ours.call("GET", "/")["secure"]
        with ServiceConnection(url, "t") as strange, pytest.raises(UnavailableError):
            strange.call("GET", "/")
        old = ssl.create_default_context(cafile=str(cert_file))
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.TransportError):
            httpx.get(url, verify=old, trust_env=False)
    finally:
        server.stop()
        thread.join(10)


def test_a_key_that_others_can_read_or_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = certificate(tmp_path / "other")

    def settings(key: Path | None) -> HttpSettings:
        return HttpSettings(
            port=0, token_file=tmp_path / "t", tls_cert_file=cert_file, tls_key_file=key
        )

    with pytest.raises(UnknownSetting, match="do not fit together"):
        build_server("test", APP, settings(other))
    key_file.chmod(0o644)
    with pytest.raises(UnknownSetting, match="can be read by others"):
        build_server("test", APP, settings(key_file))
    with pytest.raises(ValidationError):
        settings(None)
    with pytest.raises(ValidationError, match="without tls_cert_file"):
        HttpSettings(port=0, token_file=tmp_path / "t", tls_ca_file=cert_file)
