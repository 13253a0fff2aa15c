"""Kafka's jars: fetched whole or not at all, verified always, without network when warm."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.embedded import jars
from deploy.embedded.jars import Jar, default_cache, ensure_jars, read_lock
from deploy.embedded.lock_jars import lock_lines
from shared.errors import StackJarMismatch, StackNoNetwork
from tests.plugins.stack import StackUnderTest

NOWHERE = "http://127.0.0.1:9/"
CONTENTS = {f"part{number}": bytes([number]) * 200_000 for number in range(6)}


@dataclass
class Mirror:
    """A Maven repository on loopback; ``hold`` stops every answer in its middle."""

    url: str
    contents: dict[str, bytes]
    asked: list[str] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Mirror]:
    found = Mirror("", dict(CONTENTS))
    found.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.split("/")[-1]
            artifact = name.removesuffix("-1.jar")
            if artifact not in found.contents:
                self.send_error(404)
                return
            found.asked.append(artifact)
            content = found.contents[artifact]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:1000])
            self.wfile.flush()
            found.hold.wait(30)
            self.wfile.write(content[1000:])

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    lock = tmp_path / "jars.lock"
    lines = [
        f"org.example:{name}:1 {hashlib.sha256(content).hexdigest()}"
        for name, content in CONTENTS.items()
    ]
    lock.write_text("\n".join(["# a lock", *lines, ""]))
    monkeypatch.setattr(jars, "LOCK_FILE", lock)
    monkeypatch.setattr(jars.read_lock, "__defaults__", (lock,))
    monkeypatch.setenv("SECRYN_MAVEN_URL", found.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield found
    found.hold.set()
    server.shutdown()
    thread.join()
    server.server_close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_lock_names_45_jars_each_by_its_hash() -> None:
    lock = read_lock()
    assert len(lock) == 45
    assert all(len(jar.sha256) == 64 for jar in lock)
    assert Jar("org.apache.kafka", "kafka_2.13", "4.4.0", lock[0].sha256).file_name in {
        jar.file_name for jar in lock
    }


def test_the_lock_is_made_from_what_maven_lists(tmp_path: Path) -> None:
    (tmp_path / "a-1.jar").write_bytes(b"a")
    listing = "\nThe following files have been resolved:\n   org.b:a:jar:1:runtime -- module b\n"
    assert lock_lines(listing, tmp_path) == [f"org.b:a:1 {hashlib.sha256(b'a').hexdigest()}"]


def test_every_jar_is_fetched_once_and_then_only_verified(mirror: Mirror, tmp_path: Path) -> None:
    folder = ensure_jars(tmp_path / "cache", print)
    assert names(folder) == {f"{name}-1.jar" for name in CONTENTS}
    assert sorted(mirror.asked) == sorted(CONTENTS)
    ensure_jars(tmp_path / "cache", print)
    assert len(mirror.asked) == len(CONTENTS)
    assert names(tmp_path / "cache") == {"jars", "jars.flock"}


def test_a_jar_altered_in_the_cache_is_fetched_again(mirror: Mirror, tmp_path: Path) -> None:
    folder = ensure_jars(tmp_path / "cache", print)
    mirror.asked.clear()
    (folder / "part3-1.jar").write_bytes(b"something else")
    ensure_jars(tmp_path / "cache", print)
    assert mirror.asked == ["part3"]
    assert (folder / "part3-1.jar").read_bytes() == CONTENTS["part3"]


def test_another_file_than_the_lock_names_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.contents["part2"] = b"not the jar"
    with pytest.raises(StackJarMismatch, match="part2"):
        ensure_jars(tmp_path / "cache", print)
    assert "part2-1.jar" not in names(tmp_path / "cache" / "jars")


def test_a_source_that_has_not_all_of_them_is_told(mirror: Mirror, tmp_path: Path) -> None:
    del mirror.contents["part1"]
    with pytest.raises(StackNoNetwork, match="part1"):
        ensure_jars(tmp_path / "cache", print)


def test_two_starts_at_once_fetch_every_jar_once(mirror: Mirror, tmp_path: Path) -> None:
    told: list[str] = []
    threads = [
        threading.Thread(target=ensure_jars, args=(tmp_path / "cache", told.append)) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(mirror.asked) == sorted(CONTENTS)
    assert names(tmp_path / "cache" / "jars") == {f"{name}-1.jar" for name in CONTENTS}


def test_a_killed_fetch_leaves_no_half_jar(mirror: Mirror, tmp_path: Path) -> None:
    mirror.hold.clear()
    script = (
        "import sys; from pathlib import Path; from deploy.embedded import jars;"
        "jars.read_lock.__defaults__ = (Path(sys.argv[1]),);"
        "jars.ensure_jars(Path(sys.argv[2]), print)"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "jars.lock"), str(tmp_path / "cache")]
    fetching = subprocess.Popen(argv)
    deadline = time.monotonic() + 20
    while len(mirror.asked) < len(CONTENTS) and time.monotonic() < deadline:
        time.sleep(0.05)
    fetching.send_signal(signal.SIGKILL)
    fetching.wait()
    assert mirror.asked
    assert names(tmp_path / "cache" / "jars") == set()
    mirror.hold.set()
    ensure_jars(tmp_path / "cache", print)
    assert not [name for name in names(tmp_path / "cache") if name.startswith("fetch-")]
    for name, content in CONTENTS.items():
        assert (tmp_path / "cache" / "jars" / f"{name}-1.jar").read_bytes() == content


def test_up_without_network_and_with_a_cold_cache_says_so(
    new_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> None:
    stack = new_stack(SECRYN_CACHE=str(tmp_path / "cold"), SECRYN_MAVEN_URL=NOWHERE)
    error = stack.refusal("up")
    assert error["code"] == "stack.no_network"
    assert "SECRYN_CACHE" in error["hint"]
    assert stack.status()["state"] == "stopped"


def test_up_without_network_and_with_a_warm_cache_works(
    new_stack: Callable[..., StackUnderTest],
) -> None:
    cache = default_cache()
    ensure_jars(cache, print)
    unreachable = dict.fromkeys(("SECRYN_MAVEN_URL", "http_proxy", "https_proxy"), NOWHERE)
    stack = new_stack(SECRYN_CACHE=str(cache), **unreachable)
    assert json.loads(stack.secryn("up").stdout)["healthy"] is True
