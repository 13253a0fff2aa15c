"""Tell whether the service of this container is ready: ``python -m serving.probe``.

It is what the image's health check runs every few seconds, so it imports nothing but what it
needs. It ends with 0 when /readyz says so, and else with 1 and one line.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
import tomllib
from pathlib import Path
from typing import Any

TIMEOUT_S = 4.0


def main() -> int:
    """Ask /readyz at the port of the settings file that SECRYN_CONFIG names."""
    try:
        settings = _http_settings()
        connection = _connection(settings)
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, KeyError, ValueError) as error:
        print(f"no answer: {type(error).__name__}")
        return 1
    print(f"/readyz answers {status}")
    return 0 if status == http.client.OK else 1


def _http_settings() -> dict[str, Any]:
    document = tomllib.loads(Path(os.environ["SECRYN_CONFIG"]).read_text(encoding="utf-8"))
    settings: dict[str, Any] = document["http"]
    return settings | {
        name: os.environ[variable]
        for name in ("host", "port", "tls_cert_file")
        if (variable := f"SECRYN_HTTP__{name.upper()}") in os.environ
    }


def _connection(settings: dict[str, Any]) -> http.client.HTTPConnection:
    host, port = str(settings.get("host", "127.0.0.1")), int(settings["port"])
    # What listens everywhere listens at the loopback, too.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    if settings.get("tls_cert_file") is None:
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    # It asks itself and sends no secret: the name in the certificate is another one.
    context = ssl._create_unverified_context()  # noqa: S323
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


if __name__ == "__main__":
    sys.exit(main())
