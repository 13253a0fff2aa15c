"""One suite for every implementation of the storage port."""

import os
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.errors import (
    ConflictError,
    ObjectNotFound,
    UsageError,
)
from shared.storage import LocalFolder, ObjectStore

NAME = "backup-1.age"
MIB = 1 << 20


@dataclass(frozen=True)
class Made:
    """A store, and everything that lies in it: halves too, which the store never lists."""

    store: ObjectStore
    everything: Callable[[], list[str]]


def made_local(place: Path) -> Made:
    folder = place / "objects"
    return Made(LocalFolder(folder), lambda: sorted(path.name for path in folder.iterdir()))


IMPLEMENTATIONS: dict[str, Callable[[Path], Made]] = {"local": made_local}


@pytest.fixture(params=IMPLEMENTATIONS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    return IMPLEMENTATIONS[request.param](tmp_path)


@pytest.fixture
def store(made: Made) -> ObjectStore:
    return made.store


def put(store: ObjectStore, name: str = NAME, content: bytes = b"content") -> None:
    writer = store.create(name)
    writer.write(content)
    writer.commit()


def get(store: ObjectStore, name: str = NAME, start: int = 0) -> bytes:
    with store.open(name, start) as reader:
        return reader.read()


def names(store: ObjectStore, prefix: str = "") -> list[str]:
    return [info.name for info in store.list(prefix)]


class TestWriting:
    @pytest.mark.parametrize("length", [0, 1, MIB - 1, MIB, MIB + 1])
    def test_an_object_is_read_as_it_was_written(self, store: ObjectStore, length: int) -> None:
        content = os.urandom(length)
        put(store, content=content)
        assert get(store) == content
        assert store.stat(NAME).size_bytes == length

    def test_pieces_of_any_size_and_kind_make_one_object(self, store: ObjectStore) -> None:
        writer = store.create(NAME)
        pieces: list[bytes | bytearray | memoryview] = [
            b"",
            b"a",
            bytearray(b"bc"),
            memoryview(b"def"),
            os.urandom(3 * MIB),
        ]
        assert [writer.write(piece) for piece in pieces] == [len(piece) for piece in pieces]
        writer.commit()
        assert get(store) == b"".join(pieces)

    def test_nothing_is_seen_before_the_commit(self, store: ObjectStore) -> None:
        writer = store.create(NAME)
        writer.write(os.urandom(3 * MIB))
        assert names(store) == []
        with pytest.raises(ObjectNotFound):
            store.stat(NAME)
        with pytest.raises(ObjectNotFound), store.open(NAME):
            pass
        writer.commit()
        assert names(store) == [NAME]

    def test_a_reader_beside_a_writer_sees_all_or_nothing(self, store: ObjectStore) -> None:
        content = os.urandom(4 * MIB)
        stop = threading.Event()
        seen: set[int] = set()

        def watch() -> None:
            while not stop.is_set():
                seen.update(info.size_bytes for info in store.list())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for number in range(10):
                put(store, f"object-{number}", content)
        finally:
            stop.set()
            watcher.join()
        assert seen <= {len(content)}

    def test_an_aborted_object_leaves_nothing(self, store: ObjectStore, made: Made) -> None:
        writer = store.create(NAME)
        writer.write(os.urandom(2 * MIB))
        writer.abort()
        writer.abort()
        assert names(store) == []
        assert made.everything() == []
        put(store)
        assert get(store) == b"content"

    def test_abort_behind_a_commit_is_harmless(self, store: ObjectStore) -> None:
        writer = store.create(NAME)
        writer.write(b"content")
        writer.commit()
        writer.abort()
        assert get(store) == b"content"

    def test_a_name_that_is_taken_is_never_replaced(self, store: ObjectStore) -> None:
        put(store, content=b"first")
        second = store.create(NAME)
        second.write(b"second")
        with pytest.raises(ConflictError, match=NAME):
            second.commit()
        second.abort()
        assert get(store) == b"first"

    def test_of_two_writers_of_one_name_the_first_to_commit_has_it(
        self, store: ObjectStore, made: Made
    ) -> None:
        one, two = store.create(NAME), store.create(NAME)
        one.write(b"one")
        two.write(b"two")
        two.commit()
        with pytest.raises(ConflictError):
            one.commit()
        one.abort()
        assert get(store) == b"two"
        assert made.everything() == [NAME]


class TestReading:
    @pytest.mark.parametrize("start", [0, 1, 4, 9, 10])
    def test_a_range_begins_where_asked(self, store: ObjectStore, start: int) -> None:
        put(store, content=b"0123456789")
        assert get(store, start=start) == b"0123456789"[start:]

    def test_behind_the_end_there_is_nothing(self, store: ObjectStore) -> None:
        put(store, content=b"0123456789")
        assert get(store, start=1000) == b""

    def test_a_read_gives_at_most_its_size(self, store: ObjectStore) -> None:
        put(store, content=b"0123456789")
        with store.open(NAME, 2) as reader:
            assert [reader.read(3), reader.read(3), reader.read(3)] == [b"234", b"567", b"89"]
            assert reader.read(3) == b""

    @pytest.mark.parametrize("missing", ["backup-2.age", "backup-1", "BACKUP-1.age"])
    def test_a_missing_object_is_told_by_name(self, store: ObjectStore, missing: str) -> None:
        put(store)
        with pytest.raises(ObjectNotFound, match=missing):
            store.stat(missing)
        with pytest.raises(ObjectNotFound, match=missing), store.open(missing):
            pass

    def test_an_object_being_read_survives_its_deletion(self, store: ObjectStore) -> None:
        put(store, content=b"0123456789")
        with store.open(NAME) as reader:
            store.delete(NAME)
            assert reader.read() == b"0123456789"


class TestListing:
    def test_objects_are_listed_by_name_with_their_sizes(self, store: ObjectStore) -> None:
        for name, size in (("b", 2), ("a", 1), ("c", 3), ("B", 4)):
            put(store, name, bytes(size))
        listed = [(info.name, info.size_bytes) for info in store.list()]
        assert listed == [("B", 4), ("a", 1), ("b", 2), ("c", 3)]

    def test_an_object_tells_when_it_was_made(self, store: ObjectStore) -> None:
        before = time.time()
        put(store)
        # A clock of another machine, or a coarse one of a file system, may differ a little.
        assert before - 5 < store.stat(NAME).modified_at < time.time() + 5

    def test_a_prefix_selects(self, store: ObjectStore) -> None:
        for name in ("x-1", "x-2", "y-1"):
            put(store, name)
        assert names(store, "x-") == ["x-1", "x-2"]
        assert names(store, "z") == []

    def test_an_object_deleted_meanwhile_does_not_break_a_list(self, store: ObjectStore) -> None:
        for name in ("a", "b", "c"):
            put(store, name)
        listed = store.list()
        assert next(listed).name == "a"
        store.delete("b")
        assert [info.name for info in listed] == ["c"]

    def test_the_newest_of_a_kind_come_first(self, store: ObjectStore) -> None:
        assert list(store.newest(".age", 2)) == []
        for name in ("c.age", "a.age", "a.age.receipt", "b.age", "age"):
            put(store, name, bytes(3))
            time.sleep(0.02)
        writer = store.create("d.age")
        writer.write(b"not there yet")
        found = store.newest(".age", 2)
        assert [(info.name, info.size_bytes) for info in found] == [("b.age", 3), ("a.age", 3)]
        assert len(store.newest(".age", 9)) == 3
        writer.abort()
        store.delete("b.age")
        put(store, "e.age")
        assert [info.name for info in store.newest(".age", 2)] == ["e.age", "a.age"]

    def test_what_is_being_written_is_not_listed(self, store: ObjectStore) -> None:
        writer = store.create(NAME)
        writer.write(b"x")
        assert names(store) == []
        writer.abort()


class TestDeleting:
    def test_a_deleted_object_is_gone_and_its_name_free(self, store: ObjectStore) -> None:
        put(store, content=b"first")
        store.delete(NAME)
        assert names(store) == []
        put(store, content=b"second")
        assert get(store) == b"second"

    def test_deleting_may_be_repeated(self, store: ObjectStore) -> None:
        put(store, "other")
        for _ in range(2):
            store.delete(NAME)
        assert names(store) == ["other"]

    def test_a_sweep_removes_what_a_killed_writer_of_that_name_left(
        self, store: ObjectStore, made: Made
    ) -> None:
        put(store)
        store.create("killed").write(bytes(2 * MIB))
        going_on = store.create("killed-too")
        going_on.write(b"whole")
        store.sweep("killed")
        assert len(made.everything()) == 2
        going_on.commit()
        assert get(store, "killed-too") == b"whole"
        assert names(store) == [NAME, "killed-too"]


class TestNames:
    @pytest.mark.parametrize("name", ["a", "A-1_b.age", "0", "a" * 200, "a..b", "backup.tar.age"])
    def test_a_name_of_the_grammar_is_taken(self, store: ObjectStore, name: str) -> None:
        put(store, name)
        assert names(store) == [name]

    @pytest.mark.parametrize(
        "name",
        [
            "", ".", "..", "../a", "../../etc/passwd", "/etc/passwd", "a/b", "a/../b", "a\\b",
            ".hidden", ".partial-x", "-a", "_a", "a b", "a\n", "\na", "a\0", "a\0.age", "\u00e4",
            "a\u2215b", "a" * 201, "C:a", "a%2fb", "~a", "*", "a?",
        ],
    )  # fmt: skip
    def test_any_other_name_is_refused_by_every_operation(
        self, store: ObjectStore, made: Made, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "a").write_bytes(b"outside")
        with pytest.raises(UsageError):
            store.create(name)
        with pytest.raises(UsageError), store.open(name):
            pass
        for operation in (store.stat, store.delete, store.sweep):
            with pytest.raises(UsageError):
                operation(name)
        assert (tmp_path / "a").read_bytes() == b"outside"
        assert made.everything() == []


class TestMemory:
    def test_a_large_object_is_written_and_read_in_flat_memory(self, store: ObjectStore) -> None:
        block = bytes(MIB)
        tracemalloc.start()
        try:
            writer = store.create(NAME)
            for _ in range(64):
                writer.write(block)
            writer.commit()
            with store.open(NAME) as reader:
                while reader.read(MIB):
                    pass
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert store.stat(NAME).size_bytes == 64 * MIB
        assert peak < 8 * MIB


def test_what_is_free_is_told_or_not_known(store: ObjectStore) -> None:
    free = store.free_bytes()
    assert free is None or free > 0


def test_the_location_is_for_people(store: ObjectStore) -> None:
    assert store.location.partition(":")[0] in {"file", "s3"}
