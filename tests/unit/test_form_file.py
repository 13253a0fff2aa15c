"""The file of a form is read as it comes: whatever the pieces are, and never all of it at once."""

from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
from collections.abc import Iterator

import pytest

from serving.formfile import FormFile
from shared.errors import UsageError

BOUNDARY = b"----WebKitFormBoundaryx"


def form(content: bytes, *, before: bytes = b"", after: bytes = b"--\r\n") -> bytes:
    """Return a form with a token, and a file, as a browser sends it."""
    return (
        b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\nabc\r\n'
        + before + b"--" + BOUNDARY
        + b'\r\nContent-Disposition: form-data; name="file"; filename="a.age"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n--" + BOUNDARY + after
    )  # fmt: skip


class Slow(io.BytesIO):
    """A connection that gives so many bytes at a time."""

    def __init__(self, content: bytes, at_once: int) -> None:
        super().__init__(content)
        self._at_once = at_once

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._at_once)


@pytest.mark.parametrize("at_once", [1, 7, 64, 1000, 1 << 20])
@pytest.mark.parametrize("size", [0, 1, 2, 64, 4096])
def test_a_file_comes_out_as_it_went_in_whatever_the_pieces_are(at_once: int, size: int) -> None:
    # With beginnings of the boundary in it.
    content = (os.urandom(size) + b"\r\n--" + BOUNDARY[:-1] + b"\r\n--")[: size + 40] * 2
    file = FormFile(Slow(form(content), at_once), BOUNDARY)
    assert file.fields == {"csrf_token": "abc"}
    assert not file.ended or not content
    assert b"".join(iter(lambda: file.read(100), b"")) == content
    assert file.ended


def test_a_part_without_content_may_have_no_line_end_of_its_own() -> None:
    sent = form(b"").replace(b"octet-stream\r\n\r\n\r\n--", b"octet-stream\r\n\r\n--")
    assert len(sent) == len(form(b"")) - 2
    file = FormFile(io.BytesIO(sent), BOUNDARY)
    assert (file.read(), file.ended) == (b"", True)


@pytest.mark.parametrize("missing", [1, 10, 30, 1000])
def test_a_sender_who_is_gone_is_no_end(missing: int) -> None:
    sent = form(os.urandom(5000), after=b"")[:-missing]
    file = FormFile(io.BytesIO(sent), BOUNDARY)
    while file.read(1000):
        pass
    assert not file.ended


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"x" * 5000,
        b"--" + BOUNDARY + b"--\r\n",
        form(b"x").partition(b'name="file"')[0],
        form(b"x", before=b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; "
             b'name="large"\r\n\r\n' + b"x" * (4 << 20) + b"\r\n"),
    ],
    ids=["nothing", "no form", "no parts", "no file", "a large field"],
)  # fmt: skip
def test_what_is_no_form_with_a_file_is_refused(sent: bytes) -> None:
    with pytest.raises(UsageError):
        FormFile(io.BytesIO(sent), BOUNDARY)


class Generated:
    """A form of any size that is nowhere at once."""

    def __init__(self, blocks: int) -> None:
        self.digest = hashlib.sha256()
        self._parts = self._made(blocks)

    def read(self, size: int = -1, /) -> bytes:
        return next(self._parts, b"")

    def _made(self, blocks: int) -> Iterator[bytes]:
        head, _, tail = form(b"@here@").partition(b"@here@")
        yield head
        for number in range(blocks):
            block = number.to_bytes(8, "big") * (1 << 17)
            self.digest.update(block)
            yield block
        yield tail


def test_memory_does_not_grow_with_the_file() -> None:
    source = Generated(200)
    tracemalloc.start()
    try:
        file, digest = FormFile(source, BOUNDARY), hashlib.sha256()
        while data := file.read(1 << 20):
            digest.update(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert file.ended
    assert digest.digest() == source.digest.digest()
    assert peak < 16 << 20
