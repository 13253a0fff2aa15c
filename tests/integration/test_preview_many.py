"""A preview counts very many events by their headers alone, and its memory does not grow with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from bench.watched import resident_peak_kb
from shared.instance.events import ProjectCreated, ProjectUpdated
from shared.instance.writer import NewEvent
from tests.documents import plain
from tests.plugins.live import Json, Live

# The first fill every buffer between the log and the counters.
FILLING, MORE = 40_000, 50_000
MANY = FILLING + MORE
# The allocator's doing; what comes after the first are 30 MB.
SPARE_KB = 6_000


def updates(project: UUID, count: int) -> Iterator[NewEvent]:
    for number in range(count):
        event = ProjectUpdated(id=project, name="many", description="x" * (number % 300))
        yield NewEvent(event, f"actor {number % 7}")


def counted(live: Live, backup: Json, key: str) -> Json:
    asked = live.services.restores.preview(
        target_instance_id=live.instance_id, key_file_text=key, backup_id=backup["backup_id"]
    )
    found = live.services.restores.wait_preview(asked["preview_id"])
    assert found["state"] == "previewed", found
    events: Json = plain(found["events"])
    return events


@pytest.mark.long("the bench counts a million; every run counts a hundred")
def test_fifty_thousand_events_more_take_no_more_memory(empty_live: Live) -> None:
    project = uuid4()
    empty_live.append(ProjectCreated(id=project, name="many"))
    backup, key = empty_live.backup()
    writer, pid = empty_live.platform.writer, empty_live.stack.pids()["restore"]

    writer.append_all(updates(project, FILLING))
    few = counted(empty_live, backup, key)
    peak_of_few = resident_peak_kb(pid)
    last = writer.append_all(updates(project, MORE))
    many = counted(empty_live, backup, key)
    peak_of_many = resident_peak_kb(pid)

    assert (few["total"], many["total"]) == (FILLING, MANY)
    assert many["by_kind"] == {ProjectUpdated.TYPE: MANY}
    expected = Counter(f"actor {n % 7}" for n in [*range(FILLING), *range(MORE)])
    assert many["by_actor"] == expected
    assert last is not None
    newest = [event["offset"] for event in many["newest"]]
    assert newest == list(range(last.offset, last.offset - 20, -1))
    assert peak_of_many - peak_of_few < SPARE_KB, (peak_of_few, peak_of_many)
