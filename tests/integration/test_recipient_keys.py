"""The recipients of sealed keys, where two replicas share their folder."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from restore_service.recipient.keys import RecipientKeys
from shared.archive.age import HybridIdentity

CLOCK = "restore_service.recipient.keys.time.time"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("_", range(5))
def test_two_replicas_that_begin_at_once_publish_the_same_recipient(tmp_path: Path, _: int) -> None:
    replicas = [RecipientKeys(tmp_path, 3600) for _ in range(4)]
    # Every one has looked and found nothing before the first one writes.
    barrier, listed = threading.Barrier(4), RecipientKeys._files

    def together(self: RecipientKeys) -> list[tuple[int, Path]]:
        found = listed(self)
        barrier.wait(10)
        return found

    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(4) as pool:
        patched.setattr(RecipientKeys, "_files", together)
        patched.setattr(CLOCK, lambda: 1_000_000.0)
        published = {one.recipient for one in pool.map(RecipientKeys.current, replicas)}
    assert len(published) == 1
    assert names(tmp_path) == ["1000000.identity"]


def test_what_another_replica_destroys_meanwhile_is_gone_and_no_fault(tmp_path: Path) -> None:
    replica = RecipientKeys(tmp_path, 60)
    now = int(time.time())
    for made_at in (now, now - 200):
        path = tmp_path / f"{made_at}.identity"
        path.touch(mode=0o600)
        path.write_text(HybridIdentity.generate().encode())
    files = replica._files()
    (tmp_path / f"{now - 200}.identity").unlink()
    replica._destroy_old(now, files)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RecipientKeys, "_files", lambda _: files)
        assert len(replica._identities()) == 1


def test_a_clock_that_was_set_back_makes_one_recipient_and_not_one_a_second(
    tmp_path: Path,
) -> None:
    replica = RecipientKeys(tmp_path, 3600)
    now = 2_000_000.0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(CLOCK, lambda: now)
        replica.current()
        now -= 7200
        first = replica.current()
        now += 30
        assert replica.current() == first
        assert len(names(tmp_path)) == 2
