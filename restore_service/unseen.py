"""What the log says of restores behind the place that the store has reached.

A store that is up to date has nothing behind it. One that is rebuilt from the log, because its
disk was lost, has whole restores there that this service's history does not know either, and may
have stopped at one that the log alone does not lead past.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from restore_service.context import RestoreContext
from shared.errors import MessageUnreadable
from shared.instance.events import FENCE_EVENTS, Restored
from shared.instance.history import Fence, FenceTracker
from shared.instance.position import LogPosition
from shared.instance.reading import Announced, read_announced
from shared.messages.topics import INSTANCE_EVENTS


@dataclass(frozen=True)
class Unseen:
    """The end of the log as the three restore events tell it.

    ``open_fence`` is the fence that nothing on the log closes; ``restores`` says whether there is
    any restore event that the store has not seen; fence numbers and epochs are the highest ones.
    """

    open_fence: Fence | None
    highest_fence_no: int
    epoch: int
    restores: bool


def read_unseen(context: RestoreContext, present: LogPosition) -> Unseen:
    """Read the log from the store's position to its end; memory is that of one read.

    A log that is not the store's, or does not reach to it, says nothing: then the row alone counts.
    Raises KafkaUnavailable.
    """
    tracker, epoch, restores = FenceTracker.at(present), present.epoch, False
    for announced in _restore_events(context, present):
        restores = True
        tracker.see(announced.offset, announced.event)
        if isinstance(announced.event, Restored):
            epoch = max(epoch, announced.event.epoch)
    return Unseen(tracker.fence, tracker.highest_fence_no, epoch, restores)


def _restore_events(context: RestoreContext, present: LogPosition) -> Iterator[Announced]:
    topic = context.kafka.topic(INSTANCE_EVENTS)
    with context.kafka.admin() as admin:
        identity = admin.log_identity(topic)
        first, end = admin.beginning_offset(topic), admin.last_stable_offset(topic)
    same_log = (identity.cluster_id, identity.topic_id) == (present.cluster_id, present.topic_id)
    position = present.position
    if not (same_log and first <= position < end):
        return
    with context.kafka.log_reader(topic) as reader:
        for batch in reader.between(position, end):
            for record in batch.records:
                with suppress(MessageUnreadable):
                    # A projector stops at one that is. A restore is the way past: it goes on.
                    announced = read_announced(record, context.issuers)
                    if announced is not None and isinstance(announced.event, FENCE_EVENTS):
                        yield announced
