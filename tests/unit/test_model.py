"""The model says what the design says of restores: what they bring back, and what they make void."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from shared.instance.events import (
    InstanceEvent,
    LogSource,
    ProjectCreated,
    RestoreAborted,
    Restored,
    RestoreStarted,
)
from shared.instance.fold import LoggedEvent
from tests.model import Model, SourceUnknown

HERE, ELSEWHERE = ("cluster", "topic"), ("other cluster", "topic")
FIRST, SECOND = UUID(int=1), UUID(int=2)


class Log:
    """A log that is written event by event."""

    def __init__(self, *, log: tuple[str, str] = HERE) -> None:
        self.events: list[LoggedEvent] = []
        self.log = log

    def add(self, event: InstanceEvent, epoch: int = 1) -> int:
        offset = len(self.events)
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        self.events.append(LoggedEvent(offset, uuid4(), event.TYPE, moment, "x", epoch, event))
        return offset

    def project(self, name: str, epoch: int = 1) -> int:
        return self.add(ProjectCreated(id=uuid4(), name=name), epoch)

    def started(self, number: int, restore: UUID = FIRST) -> int:
        return self.add(RestoreStarted(restore_id=restore, fence_no=number, backup_id=uuid4()))

    def aborted(self, number: int, restore: UUID = FIRST) -> int:
        return self.add(RestoreAborted(restore_id=restore, fence_no=number, reason="x"))

    def restored(
        self,
        number: int,
        fence: int,
        to: int | None = None,
        *,
        restore: UUID = FIRST,
        epoch: int = 2,
        source: tuple[str, str] = HERE,
        undo_of: UUID | None = None,
    ) -> int:
        origin = None
        if to is not None:
            origin = LogSource(
                cluster_id=source[0], topic_id=source[1], snapshot_offset=to, position=to
            )
        return self.add(
            Restored(
                restore_id=restore,
                fence_no=number,
                fence_offset=fence,
                epoch=epoch,
                backup_id=uuid4(),
                source=origin,
                undo_of=undo_of,
            )
        )

    def model(self, sources: dict[tuple[str, str], list[LoggedEvent]] | None = None) -> Model:
        model = Model(self.log, sources)
        model.apply_all(self.events)
        return model

    def names(self) -> list[str]:
        return names(self.model())


def names(model: Model) -> list[str]:
    return sorted(row["name"] for row in model.tables()["projects"].values())


def test_a_restore_brings_the_state_at_its_source_back_and_voids_the_fence() -> None:
    log = Log()
    snapshot = log.project("kept") + 1
    log.project("lost")
    fence = log.started(1)
    log.project("void")
    log.restored(1, fence, snapshot)
    log.project("stale")
    log.project("new", epoch=2)
    assert log.names() == ["kept", "new"]
    assert log.model().skipped == {"fenced": 1, "epoch": 1}
    assert log.model().epoch == 2


def test_an_aborted_fence_leaves_no_trace() -> None:
    log = Log()
    log.project("before")
    log.started(1)
    log.project("behind")
    assert log.names() == ["before"]
    log.aborted(1)
    log.project("after")
    assert log.names() == ["after", "before", "behind"]
    assert log.model().skipped == {}


def test_an_undo_brings_back_what_stood_at_the_fence() -> None:
    log = Log()
    log.project("lost")
    log.restored(1, log.started(1), 0)
    log.project("in between", epoch=2)
    again = log.started(2, SECOND)
    log.restored(2, again, restore=SECOND, epoch=3, undo_of=FIRST)
    log.project("new", epoch=3)
    assert log.names() == ["lost", "new"]


def test_a_state_from_another_log_needs_that_log() -> None:
    other = Log(log=ELSEWHERE)
    other.project("theirs")
    other.project("theirs later")
    log = Log()
    log.project("ours")
    log.restored(1, log.started(1), 1, source=ELSEWHERE)
    assert names(log.model({ELSEWHERE: other.events})) == ["theirs"]
    with pytest.raises(SourceUnknown):
        log.model()


@pytest.mark.parametrize("number", [1, 2])
def test_a_number_is_used_once(number: int) -> None:
    log = Log()
    log.started(2)
    log.aborted(2)
    log.started(number, SECOND)
    log.project("not fenced")
    assert log.names() == ["not fenced"]


def test_a_start_behind_an_open_fence_is_spent() -> None:
    log = Log()
    log.started(1)
    log.started(2, SECOND)
    log.aborted(1)
    log.project("not fenced")
    assert log.names() == ["not fenced"]
    assert log.model().highest_fence_no == 2


def test_only_its_own_end_closes_a_fence() -> None:
    log = Log()
    fence = log.started(1)
    log.aborted(2)
    log.aborted(1, SECOND)
    log.restored(1, fence + 1, 0)
    log.project("behind")
    assert log.names() == []
    assert log.model().fence == (1, FIRST, fence)


def test_a_restore_forgets_the_rejections_made_since() -> None:
    log = Log()
    log.project("twice")
    log.project("twice")
    assert len(log.model().tables()["rejections"]) == 1
    log.restored(1, log.started(1), 1)
    assert log.model().tables()["rejections"] == {}
