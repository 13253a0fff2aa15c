"""How far a restore rolls forward: the offset X, and the way there from the backup's S."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from restore_service.commands import RollForward
from restore_service.context import RestoreContext
from shared.errors import CrossesRestore, LogLost, RollForwardRange, UnavailableError
from shared.instance.position import LogPosition
from shared.instance.replay import Watcher, check_whole, read_spans
from shared.instance.retrace import BEGINNING, Base, Crossing, LogName, Span, Stretch, retrace
from shared.kafka import LogReader
from shared.messages.topics import INSTANCE_EVENTS

RECEIPT_SUFFIX: Final = ".receipt.json"
NAMED_BACKUPS: Final = 5

Look = Callable[[], None]


@dataclass(frozen=True)
class Way:
    """What is folded into ``base`` for the state of the log before ``target``."""

    base: Base
    target: int
    stretches: list[Stretch]

    @property
    def offsets(self) -> int:
        """Return how many offsets are read."""
        return sum(stretch.end - stretch.start for stretch in self.stretches)


@dataclass
class PresentLog:
    """The instance's log, with its present ends."""

    context: RestoreContext
    reader: LogReader
    name: LogName
    beginning: int
    end: int
    look: Look

    def spans(self, start: int, watcher: Watcher | None = None) -> list[Span]:
        """Return every fence from ``start`` to the end; ``watcher`` looks on at all of the log."""
        # What a log that was cut no longer has is found missing behind this.
        start = max(start, self.beginning)
        issuers, look = self.context.issuers, self.look
        spans = read_spans(self.reader, issuers, start, self.end, lambda _: look(), watcher=watcher)
        if start > self.beginning and spans and spans[-1].end is None:
            # Open to the end: real, or a late Started whose number was used before ``start``.
            everything = self.spans(self.beginning, watcher)
            return [span for span in everything if span.fence_offset >= start]
        return spans

    def check_same(self, facts: dict[str, Any]) -> None:
        """Raise LogLost when the archive that ``facts`` describe is of another log."""
        if self.name != (facts["cluster_id"], facts["topic_id"]):
            raise LogLost(
                f"the backup was made on topic {facts['topic_id']} of cluster "
                f"{facts['cluster_id']}; here is topic {self.name[1]} of cluster {self.name[0]}",
                hint="Restore without a roll-forward: the events behind this backup are not here.",
            )

    def target_of(self, start: int, wanted: RollForward) -> int:
        """Return the offset X that ``wanted`` means. Raises RollForwardRange."""
        if wanted == "latest":
            return self.end
        if isinstance(wanted, datetime):
            found = self.reader.first_offset_at(_milliseconds(wanted))
            target = self.end if found is None else min(found, self.end)
        else:
            assert isinstance(wanted, int)
            target = wanted
        if not start <= target <= self.end:
            raise RollForwardRange(
                f"offset {target} does not lie between the backup's {start} and the log's {self.end}"
            )
        return target


@contextmanager
def present_log(context: RestoreContext, end: int | None, look: Look) -> Iterator[PresentLog]:
    """Open the instance's log up to ``end`` (None: its present end). Raises KafkaUnavailable."""
    topic = context.kafka.topic(INSTANCE_EVENTS)
    with context.kafka.admin() as admin, context.kafka.log_reader(topic) as reader:
        identity = admin.log_identity(topic)
        name = (identity.cluster_id, identity.topic_id)
        present = admin.last_stable_offset(topic) if end is None else end
        yield PresentLog(context, reader, name, admin.beginning_offset(topic), present, look)


def plan_way(
    context: RestoreContext, facts: dict[str, Any], wanted: RollForward, end: int | None, look: Look
) -> Way:
    """Return the way from the backup that ``facts`` describe to where ``wanted`` says.

    ``end`` is the fence's offset F once it stands; before, the log's present end. Raises LogLost
    (the archive is of another log), RollForwardRange, CrossesRestore, LogGap, KafkaUnavailable.
    """
    with present_log(context, end, look) as known:
        known.check_same(facts)
        target = known.target_of(facts["offset"], wanted)
        return _way(known, Base(facts["offset"], facts["source_epoch"]), target)


def way_from_kept(context: RestoreContext, kept: LogPosition, target: int, look: Look) -> Way:
    """Return the way from a state that a restore kept to the one before ``target``.

    Raises CrossesRestore, LogGap, KafkaUnavailable.
    """
    with present_log(context, target, look) as known:
        return _way(known, _base_of(known, kept), target)


def _base_of(known: PresentLog, kept: LogPosition) -> Base:
    """Return where the way from ``kept`` begins: it may stand inside a fence that it saw open.

    Of a restore that made this very state what stands before its end is void. Of one that it did
    not live through the way leads across. An aborted one leaves everything to be folded.
    """
    base = Base(kept.position, kept.epoch)
    if kept.fence_offset is None or kept.fence_offset >= kept.position:
        return base
    for span in known.spans(kept.fence_offset):
        if span.fence_offset != kept.fence_offset or span.restored is None or span.end is None:
            continue
        if span.restored.epoch == kept.epoch:
            return Base(span.end + 1, kept.epoch)
        return Base(kept.fence_offset, kept.epoch)
    return base


def way_from_empty(context: RestoreContext, facts: dict[str, Any], look: Look) -> Way:
    """Return the way from the empty state to that of the backup which ``facts`` describe.

    Raises LogLost (the backup is of another log), CrossesRestore, LogGap, KafkaUnavailable.
    """
    target = int(facts["offset"])
    with present_log(context, None, look) as known:
        known.check_same(facts)
        if target > known.end:
            raise LogLost(f"the backup was made at offset {target}; the log ends at {known.end}")
        return _way(replace(known, end=target), BEGINNING, target)


def _milliseconds(moment: datetime) -> int:
    """Return the first whole millisecond that is not before ``moment``."""
    microseconds = round(moment.timestamp() * 1_000_000)
    return -(-microseconds // 1000)


def _way(known: PresentLog, base: Base, target: int) -> Way:
    try:
        stretches = retrace(known.name, base, known.spans(base.offset), target)
    except Crossing as crossing:
        base, stretches = BEGINNING, _from_the_beginning(known, crossing, target)
    check_whole(stretches, known.beginning)
    return Way(base, target, stretches)


def _from_the_beginning(known: PresentLog, crossing: Crossing, target: int) -> list[Stretch]:
    if known.beginning == 0:
        with suppress(Crossing):
            return retrace(known.name, BEGINNING, known.spans(0), target)
    raise crosses_restore(known, crossing, target)


def crosses_restore(known: PresentLog, crossing: Crossing, target: int) -> CrossesRestore:
    """Return the error that says where the way to ``target`` ends, and how else to go."""
    span = crossing.span
    what = f"restore {span.restore_id} at offsets {span.fence_offset} to {span.end}"
    if span.adopted:
        what = f"the adoption of this log at offset {span.fence_offset}"
    return CrossesRestore(
        f"the way to offset {target} leads across {what}, "
        "whose state is neither in this archive nor on the log",
        hint=_instead(known, span),
    )


def _instead(known: PresentLog, span: Span) -> str:
    before = f"Roll forward to offset {span.fence_offset} at most"
    later = _backups_behind(known, span.end or 0)
    if not later:
        return f"{before}; there is no backup of after that restore."
    return f"{before}, or start from a backup of after it: {', '.join(later)}."


def _backups_behind(known: PresentLog, offset: int) -> list[str]:
    """Return the oldest backups of this log that were made behind ``offset``, by their receipts."""
    found: list[tuple[int, str]] = []
    for info in known.context.backups.list():
        if not info.name.endswith(RECEIPT_SUFFIX):
            continue
        with suppress(ValueError, KeyError, TypeError, UnavailableError):
            with known.context.backups.open(info.name) as source:
                facts = json.loads(source.read())["receipt"]
            same_log = (facts["cluster_id"], facts["topic_id"]) == known.name
            if same_log and int(facts["offset"]) > offset:
                found.append((int(facts["offset"]), str(facts["backup_id"])))
    return [backup_id for _, backup_id in sorted(found)[:NAMED_BACKUPS]]
