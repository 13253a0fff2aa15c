"""One authenticated HTTP connection to a service; its problems become our errors."""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import httpx

from shared.errors import SecrynError, UnavailableError, error_class

Json = dict[str, Any]
Progress = Callable[[Mapping[str, Any]], None]
# A document of shared/api.
Answer = TypeVar("Answer")

POLL_FIRST_S = 0.05
POLL_LONGEST_S = 0.25
# Shorter than the time-out of a call.
LONG_POLL_S = 10
PATIENCE_S = 30.0


class ServiceConnection:
    """Speak to one service at ``base_url`` with ``token``; the token is in no repr."""

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        timeout_s: float = 30.0,
        trusted: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        """Make the connection; ``trusted`` says whom to believe where ``base_url`` is https.

        ``server_name`` is whose certificate it must be, where that is not the host of the URL.
        """
        self.base_url = base_url
        self._timeout_s = timeout_s
        self._trusted = trusted
        self._server_name = server_name
        self._client = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout_s,
            trust_env=False,
            verify=True if trusted is None else trusted,
            event_hooks={"request": [self._name_server]},
        )

    def with_token(self, token: str) -> ServiceConnection:
        """Return another connection to the same service, for who holds another token."""
        return ServiceConnection(
            self.base_url,
            token,
            timeout_s=self._timeout_s,
            trusted=self._trusted,
            server_name=self._server_name,
        )

    def _name_server(self, request: httpx.Request) -> None:
        if self._server_name is not None:
            request.extensions["sni_hostname"] = self._server_name

    def __repr__(self) -> str:
        return f"ServiceConnection({self.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the service."""
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        if_match: str | None = None,
        **params: Any,
    ) -> Json:
        """Send one request and return its JSON document.

        ``if_match`` is the ETag of what the caller has read, or ``*``.
        ``timeout_s`` is for a call that takes longer than others before it answers.
        Raises the SecrynError that the service answered with, or UnavailableError.
        """
        try:
            response = self._client.request(
                method,
                path,
                json=body,
                params=params or None,
                headers=None if if_match is None else {"If-Match": _quoted(if_match)},
                timeout=httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s,
            )
        except httpx.HTTPError as error:
            raise _unreachable(self.base_url, error) from error
        raise_problem(response)
        document = response.json()
        if not isinstance(document, dict):
            raise SecrynError(f"{self.base_url} answered {path} with something else than an object")
        return document

    def ask(
        self,
        answer: type[Answer],
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        if_match: str | None = None,
        **params: Any,
    ) -> Answer:
        """Send one request as ``call`` does; ``answer`` is what the operation declares.

        That is said, and not checked here: an answer may gain fields in a later release.
        """
        document = self.call(method, path, body, timeout_s=timeout_s, if_match=if_match, **params)
        return cast(Answer, document)

    def ready(self) -> Json:
        """Return what /readyz says: ``ready``; to a known caller also ``faults`` and ``place``.

        Raises UnavailableError where nothing of ours answers.
        """
        try:
            response = self._client.get("/readyz")
            document = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise _unreachable(self.base_url, error) from error
        if not isinstance(document, dict) or "ready" not in document:
            raise UnavailableError(f"{self.base_url} is no service of ours")
        return document

    def download(
        self, path: str, sink: Callable[[bytes], object], **params: Any
    ) -> Mapping[str, str]:
        """Stream the body of ``path`` into ``sink``; return the response's headers."""
        with self.stream("GET", path, **params) as response:
            for chunk in response.iter_raw():
                sink(chunk)
            return dict(response.headers)

    @contextmanager
    def stream(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **params: Any
    ) -> Iterator[httpx.Response]:
        """Send one request and give its response with the body still to be read.

        Raises the SecrynError that the service answered with, or UnavailableError.
        """
        try:
            with self._client.stream(
                method, path, headers=headers, params=params or None
            ) as response:
                if response.is_error:
                    response.read()
                raise_problem(response)
                yield response
        except httpx.HTTPError as error:
            raise _unreachable(self.base_url, error) from error

    def send(
        self,
        answer: type[Answer],
        method: str,
        path: str,
        chunks: Iterable[bytes],
        headers: Mapping[str, str],
    ) -> Answer:
        """Stream ``chunks`` as one body, whose headers are given; return the ``answer``."""
        try:
            response = self._client.request(method, path, content=chunks, headers=headers)
        except httpx.HTTPError as error:
            raise _unreachable(self.base_url, error) from error
        raise_problem(response)
        return cast(Answer, response.json())

    def watch(
        self,
        answer: type[Answer],
        path: str,
        finished: Callable[[Answer], bool],
        progress: Progress | None = None,
    ) -> Answer:
        """Look at ``path``, which gives an ``answer``, until ``finished`` says so; call ``progress`` with every change.

        The service answers when something changed (long polling), or is asked again in a moment.
        One that restarts in between is waited for: only 30 s without any answer end it.
        """
        pause_s, tag = POLL_FIRST_S, ""
        last_answer = time.monotonic()
        while True:
            try:
                changed, tag = self._changed(path, tag)
                last_answer = time.monotonic()
            except UnavailableError:
                if time.monotonic() - last_answer > PATIENCE_S:
                    raise
            else:
                if changed is not None:
                    if progress is not None:
                        progress(changed)
                    document = cast(Answer, changed)
                    if finished(document):
                        return document
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.25, POLL_LONGEST_S)

    def _changed(self, path: str, tag: str) -> tuple[Json | None, str]:
        """Return the document when it is another one than ``tag`` says, and its tag."""
        waits = (
            {"params": {"wait_s": LONG_POLL_S}, "headers": {"If-None-Match": tag}} if tag else {}
        )
        try:
            response = self._client.get(path, **waits)  # type: ignore[arg-type]
        except httpx.HTTPError as error:
            raise _unreachable(self.base_url, error) from error
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return None, tag
        raise_problem(response)
        return response.json(), response.headers.get("ETag", "")


def raise_problem(response: httpx.Response) -> None:
    """Raise the error that an RFC 9457 problem describes; do nothing on success."""
    if response.is_success:
        return
    try:
        problem = response.json()
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        raise SecrynError(f"the service answered {response.status_code} without a reason") from None
    raise error_class(code)(detail, hint=problem.get("hint"))


def _quoted(etag: str) -> str:
    return etag if etag == "*" else f'"{etag}"'


def new_command_id() -> str:
    """Return a fresh command id: the same id again is the same command."""
    return str(uuid.uuid4())


def _unreachable(base_url: str, error: Exception) -> UnavailableError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UnavailableError(
                f"{base_url} shows a certificate that is not believed ({cause.verify_message})",
                hint="Name who signed it: `--ca-file FILE`, or http.tls_ca_file in the settings.",
            )
        cause = cause.__cause__ or cause.__context__
    return UnavailableError(f"{base_url} does not answer ({type(error).__name__})")
