"""Kafka's jars: named in a lock, fetched once, kept in a cache of the user.

``jars.lock`` has one line a jar: ``group:artifact:version sha256``. A jar in the cache has the
name ``artifact-version.jar`` and is always whole: it is fetched into a scratch folder, compared
with the lock, flushed and then moved into its place. Every start compares all of them again
(45 MB, some 40 ms), so that a jar altered in the cache is never run.

They come from Maven Central, or from the mirror that ``SECRYN_MAVEN_URL`` names: the lock makes
every source as good as any other.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.errors import NoSpace, StackError, StackJarMismatch, StackNoNetwork

LOCK_FILE = Path(__file__).with_name("jars.lock")
FETCH_AT_ONCE = 8
HTTP_TIMEOUT_S = 20

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Jar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def read_lock(path: Path = LOCK_FILE) -> tuple[Jar, ...]:
    """Return the jars that ``path`` names, in its order."""
    jars = []
    for line in path.read_text(encoding="ascii").splitlines():
        if line and not line.startswith("#"):
            coordinate, sha256 = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, sha256))
    return tuple(jars)


def default_cache() -> Path:
    """Return the cache folder: ``SECRYN_CACHE``, or the platform's folder for this user."""
    named = os.environ.get("SECRYN_CACHE")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("secryn")


def ensure_jars(cache: Path, progress: Progress) -> Path:
    """Return the folder in ``cache`` that holds every jar of the lock, fetching what is missing.

    Safe for several processes at once: one fetches, the others wait for it and then find all.
    Raises StackNoNetwork, StackJarMismatch or NoSpace.
    """
    jars = read_lock()
    folder = cache / "jars"
    if not _missing(jars, folder):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        with exclusive(cache / "jars.flock", progress):
            missing = _missing(jars, folder)
            if missing:
                _clear_scratch(cache)
                _fetch_all(missing, cache, folder, progress)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"no space left for Kafka's jars (about 50 MB) in {cache}") from error
        raise StackError(f"the cache folder {cache} cannot be used: {error.strerror}") from error
    return folder


def _missing(jars: tuple[Jar, ...], folder: Path) -> list[Jar]:
    with ThreadPoolExecutor(2) as pool:
        whole = pool.map(lambda jar: _sha256(folder / jar.file_name) == jar.sha256, jars)
        return [jar for jar, ok in zip(jars, whole, strict=True) if not ok]


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


@contextmanager
def exclusive(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file ``path``; the system gives it back however the holder ends."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another start that prepares Kafka")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clear_scratch(cache: Path) -> None:
    # Only the holder of the lock fetches, so every scratch folder is one of a killed fetch.
    for scratch in cache.glob("fetch-*"):
        shutil.rmtree(scratch)


def _fetch_all(jars: list[Jar], cache: Path, folder: Path, progress: Progress) -> None:
    progress(f"fetching Kafka: {len(jars)} jars, once for this user")
    scratch = Path(tempfile.mkdtemp(prefix="fetch-", dir=cache))
    try:
        with ThreadPoolExecutor(FETCH_AT_ONCE) as pool:
            pending = [pool.submit(_fetch, jar, scratch, folder) for jar in jars]
            try:
                for done, future in enumerate(as_completed(pending), start=1):
                    future.result()
                    if done % 5 == 0 or done == len(jars):
                        progress(f"fetching Kafka: {done} of {len(jars)} jars")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fetch(jar: Jar, scratch: Path, folder: Path) -> None:
    # Imported here: only a cold cache needs it, and it costs 0.3 s of every start otherwise.
    import requests
    from jgo.maven import MavenContext

    own = scratch / jar.file_name.removesuffix(".jar")
    mirror = os.environ.get("SECRYN_MAVEN_URL")
    remotes = {"mirror": mirror.rstrip("/")} if mirror else None
    context = MavenContext(repo_cache=own, remote_repos=remotes, timeout=HTTP_TIMEOUT_S)
    component = context.project(jar.group, jar.artifact).at_version(jar.version)
    try:
        path = Path(component.artifact().resolve())
    except requests.RequestException as error:
        reason = type(error).__name__
        raise StackNoNetwork(f"{jar.file_name} could not be fetched: {reason}") from error
    except RuntimeError as error:
        raise StackNoNetwork(f"no repository has {jar.file_name}") from error
    if _sha256(path) != jar.sha256:
        raise StackJarMismatch(f"{jar.file_name} does not have the SHA-256 of the lock")
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.replace(folder / jar.file_name)
