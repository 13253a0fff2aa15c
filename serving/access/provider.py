"""An OpenID Connect provider: where to send a person, and who came back.

The code flow with PKCE (OpenID Connect Core 1.0; RFC 7636).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import structlog
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.util import to_bytes

from serving.access.flow import Flow
from serving.access.settings import OidcSettings
from shared.errors import OidcUnavailable, SignInRefused
from shared.secretfiles import read_secret_file

log = structlog.get_logger(__name__)

# Signatures alone: with a symmetric one, whoever knows the client's secret could sign.
ALGORITHMS: Final = [
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "EdDSA",
]
TIMEOUT_S: Final = 10.0
KEPT_S: Final = 600.0
LEEWAY_S: Final = 60
# A person who is to prove it again has done so just now.
FRESH_S: Final = 300


@dataclass(frozen=True)
class Identity:
    """Who came back: the name that the configured claim gives, and when it was proved."""

    username: str
    subject: str
    proven_at: datetime


class Provider:
    """The provider of the settings. Its documents are read when needed and kept for a while."""

    def __init__(self, settings: OidcSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}
        verify = str(settings.tls_ca_file) if settings.tls_ca_file is not None else True
        self._http = httpx.Client(timeout=TIMEOUT_S, verify=verify, trust_env=False)

    def address(self, flow: Flow) -> str:
        """Return where to send the browser. Raises OidcUnavailable."""
        wanted: dict[str, str] = {
            "redirect_uri": self._settings.redirect_url,
            "scope": self._settings.scope,
            "nonce": flow.derived("nonce"),
            "code_challenge": create_s256_code_challenge(flow.derived("verifier")),
            "code_challenge_method": "S256",
        }
        if flow.fresh:
            wanted |= {"prompt": "login", "max_age": "0"}
        endpoint = self._endpoint("authorization_endpoint")
        return str(
            prepare_grant_uri(
                endpoint, self._settings.client_id, "code", state=flow.derived("state"), **wanted
            )
        )

    def identity(self, flow: Flow, code: str) -> Identity:
        """Exchange the code and check what is given for it. Raises SignInRefused, OidcUnavailable."""
        answer = self._exchange(flow, code)
        claims = self._claims(str(answer.get("id_token", "")), flow, str(answer["access_token"]))
        name = claims.get(self._settings.claim)
        if self._settings.claim == "email" and claims.get("email_verified") is not True:
            name = None
        if not isinstance(name, str) or not name:
            raise SignInRefused(f"the provider gave no {self._settings.claim} that counts")
        proven = datetime.fromtimestamp(float(claims.get("auth_time") or 0), UTC)
        return Identity(name, str(claims["sub"]), proven)

    def _exchange(self, flow: Flow, code: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._settings.redirect_url,
            "code_verifier": flow.derived("verifier"),
        }
        auth: httpx.Auth = httpx.Auth()
        if self._settings.client_secret_file is not None:
            secret = read_secret_file(self._settings.client_secret_file).decode()
            auth = httpx.BasicAuth(self._settings.client_id, secret)
        else:
            form["client_id"] = self._settings.client_id
        endpoint = self._endpoint("token_endpoint")
        try:
            response = self._http.post(endpoint, data=form, auth=auth)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise _unavailable(error) from None
        if response.status_code >= 500:
            raise OidcUnavailable(f"the provider answered {response.status_code}")
        if not response.is_success or "access_token" not in answer:
            # Its reason may repeat the code: only the kind is told.
            log.warning("oidc.code_refused", status=response.status_code)
            raise SignInRefused("the provider did not take the code: begin again")
        return dict(answer)

    def _claims(self, id_token: str, flow: Flow, access_token: str) -> CodeIDToken:
        options: dict[str, Any] = {
            "iss": {"essential": True, "value": self._settings.issuer},
            "aud": {"essential": True, "value": self._settings.client_id},
        }
        params: dict[str, Any] = {
            "nonce": flow.derived("nonce"),
            "client_id": self._settings.client_id,
            "access_token": access_token,
            "max_age": FRESH_S if flow.fresh else None,
        }
        try:
            token = self._decoded(id_token)
            claims = CodeIDToken(token.claims, token.header, options, params)
            claims.validate(now=int(time.time()), leeway=LEEWAY_S)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            log.warning("oidc.token_refused", reason=type(error).__name__)
            raise SignInRefused("what the provider signed does not hold") from None
        if flow.fresh and time.time() - float(claims["auth_time"]) > FRESH_S + LEEWAY_S:
            raise SignInRefused("the provider did not ask the person again")
        return claims

    def _decoded(self, id_token: str) -> jwt.Token:
        try:
            return jwt.decode(to_bytes(id_token), self._keys(), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            # Its keys may have been replaced since they were read; once a try, not more.
            self._forget("jwks_uri")
            return jwt.decode(to_bytes(id_token), self._keys(), algorithms=ALGORITHMS)

    def _keys(self) -> KeySet:
        document = self._document("jwks_uri", self._endpoint("jwks_uri"))
        return KeySet.import_key_set({"keys": list(document.get("keys", []))})

    def _endpoint(self, name: str) -> str:
        issuer = self._settings.issuer
        found = self._document("issuer", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise OidcUnavailable(
                "the provider calls itself by another name than access.oidc.issuer"
            )
        endpoint = str(found.get(name, ""))
        if urlsplit(endpoint).scheme != urlsplit(issuer).scheme:
            raise OidcUnavailable(f"the provider names no {name} that can be used")
        return endpoint

    def _document(self, name: str, url: str) -> dict[str, Any]:
        with self._lock:
            read_at, document = self._kept.get(name, (0.0, {}))
            if document and time.monotonic() - read_at < KEPT_S:
                return document
        try:
            response = self._http.get(url)
            response.raise_for_status()
            document = dict(response.json())
        except (httpx.HTTPError, ValueError, TypeError) as error:
            raise _unavailable(error) from None
        with self._lock:
            self._kept[name] = (time.monotonic(), document)
        return document

    def _forget(self, name: str) -> None:
        with self._lock:
            self._kept.pop(name, None)


def _unavailable(error: Exception) -> OidcUnavailable:
    return OidcUnavailable(f"the provider does not answer ({type(error).__name__})")
