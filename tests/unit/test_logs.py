"""Logs: one document a line, with its correlation id, and never a secret."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from shared.archive.age import HybridIdentity, X25519Identity
from shared.errors import SecrynError
from shared.logs import REDACTED, configure_logs

X25519 = X25519Identity(bytes(range(32))).encode()
HYBRID = HybridIdentity(bytes(range(32))).encode()
Entry = dict[str, Any]
Logged = Callable[[], list[Entry]]
TOKEN = "Zk3fJ1x-0pQ_9a.b~c+d/e=="
RANDOM = "Xo3-VVMqjWPhUYyD_2uvAkLkFvGmtFD5iUnqnyd1rGw"
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----"
TEXTS = {
    "an X25519 identity": X25519,
    "a post-quantum identity": HYBRID,
    "an identity in lower case": X25519.lower(),
    "a bearer token": f"Authorization: Bearer {TOKEN}",
    "a private key": PEM,
    "a private key cut off": PEM[:45],
    "a password in a connection string": "host=h password=hunter2-hunter2 user=u",
    "an API token": f"secryn-token.0b0e7a3c-5d39-4a8e-9f0d-52cb0f6f4f11.{RANDOM}",
    "a receipt": f"secryn-receipt.0b0e7a3c-5d39-4a8e-9f0d-52cb0f6f4f11.{RANDOM}",
    "a token without a name": f"/admin/backups?x={RANDOM}&y=1",
    "a password in a URL": "postgresql://backup:hunter2-hunter2@127.0.0.1/secryn",
}
SECRET_PARTS = [
    X25519[20:], X25519.lower()[20:], HYBRID[20:], TOKEN, RANDOM, "MC4CAQAw", "hunter2",
]  # fmt: skip


@dataclass
class Plain:
    """Something that is logged by what it says of itself."""

    text: str


@pytest.fixture(autouse=True)
def _logs_of_this_test_alone() -> Iterator[None]:
    before = structlog.get_config()
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()
    structlog.configure(**before)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_logs("backup")
    return lambda: [json.loads(line) for line in written.getvalue().splitlines()]


def holds_a_secret(entry: Entry) -> bool:
    shown = json.dumps(entry, ensure_ascii=False)
    return any(part in shown for part in SECRET_PARTS)


def test_an_entry_is_one_json_document_a_line_on_standard_error(logged: Logged) -> None:
    log = structlog.get_logger()
    log.info("backup.begun", parts=3, note="two\nlines")
    log.warning("backup.slow")
    first, second = logged()
    assert first["event"] == "backup.begun"
    assert (first["level"], second["level"]) == ("info", "warning")
    assert (first["parts"], first["note"]) == (3, "two\nlines")
    assert first["timestamp"].endswith("Z")
    assert first["service"] == second["service"] == "backup"


def test_a_correlation_id_is_in_every_entry_until_it_is_taken_back(logged: Logged) -> None:
    log = structlog.get_logger()
    with structlog.contextvars.bound_contextvars(correlation_id="c-1"):
        log.info("one")
        structlog.get_logger("elsewhere").info("two")
    log.info("three")
    assert [entry.get("correlation_id") for entry in logged()] == ["c-1", "c-1", None]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
class TestSecretText:
    def test_it_is_taken_out_of_the_message(self, logged: Logged, text: str) -> None:
        structlog.get_logger().info(f"before {text} behind")
        (entry,) = logged()
        assert not holds_a_secret(entry)
        assert REDACTED in entry["event"]
        assert entry["event"].startswith("before ")

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda text: text,
            lambda text: [text],
            lambda text: {"a": [{"b": (text,)}]},
            lambda text: {text: 1},
            lambda text: text.encode(),
            lambda text: {text},
            Plain,
            ValueError,
        ],
    )
    def test_it_is_taken_out_of_any_value(self, logged: Logged, text: str, wrap: Any) -> None:
        structlog.get_logger().info("event", reason=wrap(text), other="kept")
        (entry,) = logged()
        assert not holds_a_secret(entry)
        assert REDACTED in json.dumps(entry)
        assert entry["other"] == "kept"

    def test_it_is_taken_out_of_a_trace(self, logged: Logged, text: str) -> None:
        local = text
        try:
            try:
                raise SecrynError(f"inner {local}")
            except SecrynError as error:
                raise RuntimeError(f"outer {local}") from error
        except RuntimeError:
            structlog.get_logger().exception("failed")
        (entry,) = logged()
        assert not holds_a_secret(entry)
        assert entry["exception"][0]["exc_type"] == "RuntimeError"


@pytest.mark.parametrize(
    "name",
    [
        "token", "password", "passphrase", "secret", "key", "identity", "private", "authorization",
        "operator_token", "db_password", "one_time_key", "data_keys", "sealed", "sealed_key",
        "root_key", "key_hex", "Token", "PASSWORD", "private_key_pem", "token_value", "x-api-key",
    ],
)  # fmt: skip
def test_a_field_with_a_secrets_name_is_dropped_whatever_it_holds(
    logged: Logged, name: str
) -> None:
    for value in ("hunter2", b"hunter2", ["hunter2"], {"a": "hunter2"}, 12345):
        structlog.get_logger().info("event", **{name: value})
        structlog.get_logger().info("event", details={"inner": {name: value}})
    for entry in logged():
        assert (entry[name] if name in entry else entry["details"]["inner"][name]) == REDACTED


@pytest.mark.parametrize(
    "name",
    [
        "key_id", "key_file", "key_path", "key_fingerprint", "key_state", "root_key_id",
        "secret_file", "token_file", "password_file", "keyring", "monkey", "tokenizer",
    ],
)  # fmt: skip
def test_a_field_that_only_points_at_a_secret_is_kept(logged: Logged, name: str) -> None:
    structlog.get_logger().info("event", **{name: "value"})
    (entry,) = logged()
    assert entry[name] == "value"


def test_a_fingerprint_and_a_digest_are_kept(logged: Logged) -> None:
    values = {"signer": f"SHA256:{RANDOM}", "sha256": "0123456789abcdef" * 4, "named": 43 * "a"}
    structlog.get_logger().info("event", **values)
    (entry,) = logged()
    assert {name: entry[name] for name in values} == values


def test_plain_values_keep_their_types(logged: Logged) -> None:
    values = {"a": 1, "b": 2.5, "c": None, "d": True, "e": ["x", 1], "f": {"g": 2}}
    structlog.get_logger().info("event", **values)
    (entry,) = logged()
    assert {name: entry[name] for name in values} == values


def test_a_trace_shows_no_local_variables(logged: Logged) -> None:
    harmless_looking = "the plaintext of a secret"
    try:
        raise RuntimeError("failed")
    except RuntimeError:
        structlog.get_logger().exception("failed", size=len(harmless_looking))
    (entry,) = logged()
    assert "the plaintext" not in json.dumps(entry)


def test_what_psycopg_ignores_is_not_repeated_in_its_own_words() -> None:
    """It warns of a COPY that it gives up with the server's message, and that repeats values."""
    script = (
        "import logging; from shared.logs import configure_logs; configure_logs('x'); "
        "logging.getLogger('psycopg').warning('error ignored: Failing row contains (hunter2)')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
