"""Secret values of the kinds people keep, made from a seeded source of randomness.

These are samples: the randomness is a seed's, so that a test can say what a value must be.
Only key material (material.py) comes from the operating system.
"""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

_PASSWORD_ALPHABET: Final = string.ascii_letters + string.digits + "!#$%&()*+-./:;<=>?@_äöüßéñλ密"
_TOKEN_ALPHABET: Final = string.ascii_letters + string.digits
_HOSTS: Final = ("db-1.internal", "db-2.internal", "cache.internal", "mq.example.org")
_BINARY_MAX_BYTES: Final = 4096


def password(rng: Random) -> bytes:
    """Return 8 to 40 characters, now and then beyond ASCII."""
    return "".join(rng.choices(_PASSWORD_ALPHABET, k=rng.randint(8, 40))).encode()


def connection_string(rng: Random) -> bytes:
    """Return a database or broker URL with its password in it."""
    scheme, port = rng.choice((("postgresql", 5432), ("redis", 6379), ("amqps", 5671)))
    word = "".join(rng.choices(_TOKEN_ALPHABET, k=24))
    return f"{scheme}://app:{word}@{rng.choice(_HOSTS)}:{port}/main?sslmode=verify-full".encode()


def token(rng: Random) -> bytes:
    """Return an API token, or a JSON Web Token with an unchecked signature."""
    if rng.random() < 0.6:
        return ("sk_live_" + "".join(rng.choices(_TOKEN_ALPHABET, k=40))).encode()
    parts = (
        json.dumps({"alg": "ES256", "typ": "JWT"}).encode(),
        json.dumps({"sub": f"svc-{rng.randrange(1000)}", "exp": rng.randrange(2**31)}).encode(),
        rng.randbytes(64),
    )
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def pem(rng: Random) -> bytes:
    """Return a text in PEM armour, as a licence or a client key file has it."""
    body = base64.encodebytes(rng.randbytes(rng.randint(300, 1700))).decode("ascii")
    lines = "".join(body.split("\n"))
    wrapped = "\n".join(lines[i : i + 64] for i in range(0, len(lines), 64))
    return f"-----BEGIN LICENSE KEY-----\n{wrapped}\n-----END LICENSE KEY-----\n".encode()


def dotenv(rng: Random) -> bytes:
    """Return a .env file."""
    lines = ["# généré par l'équipe plateforme", f"DATABASE_URL={connection_string(rng).decode()}"]
    lines += [
        f"FEATURE_{number}_KEY='{''.join(rng.choices(_TOKEN_ALPHABET, k=20))}'"
        for number in range(rng.randint(2, 14))
    ]
    return ("\n".join(lines) + "\n").encode()


def document(rng: Random) -> bytes:
    """Return a JSON document, such as a cloud's service account."""
    account = {
        "type": "service_account",
        "project_id": f"projekt-{rng.randrange(10**6)}",
        "private_key_id": rng.randbytes(20).hex(),
        "private_key": base64.b64encode(rng.randbytes(rng.randint(200, 1200))).decode("ascii"),
        "beschreibung": "Zugang für die Nachtläufe 🌙",
    }
    return json.dumps(account, ensure_ascii=False, indent=2).encode()


def binary(rng: Random) -> bytes:
    """Return bytes that are no text: a keystore, a keytab, rarely an empty file."""
    return rng.randbytes(rng.choice((0, 16, 32, 64, 256, 1024, _BINARY_MAX_BYTES)))


KINDS: Final[Mapping[str, Callable[[Random], bytes]]] = {
    "password": password,
    "connection_string": connection_string,
    "token": token,
    "pem": pem,
    "dotenv": dotenv,
    "json": document,
    "binary": binary,
}
# How often each occurs, in the order of KINDS: mostly passwords and tokens.
WEIGHTS: Final = (40, 16, 22, 6, 7, 6, 3)


def draw_kind(rng: Random) -> str:
    """Return one of KINDS, as often as people have them."""
    return rng.choices(tuple(KINDS), weights=WEIGHTS)[0]
