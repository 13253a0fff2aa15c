"""The story of a backup, for people: what happened to it, when, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from backup_service import events as ev
from backup_service.context import BackupContext
from backup_service.handlers.note_use import APPROVED, ASKED, OVER, RESTORED
from backup_service.web.words import REHEARSALS, RULES
from shared.database import postgres_faults
from shared.eventstore import StoredEvent

# So many events are told; of a longer story the newest, and how many there were before.
TOLD: Final = 60


@dataclass(frozen=True)
class Moment:
    """One thing that happened: a shape and a word, by whom, and what else is to be said of it.

    ``restore_id`` and ``rehearsal_id`` say where there is more of it.
    """

    at: str
    shape: str
    word: str
    by: str
    text: str = ""
    until: str | None = None
    restore_id: str | None = None
    rehearsal_id: str | None = None


@dataclass(frozen=True)
class Story:
    """What is told of a backup, the oldest first; ``earlier`` events are left out."""

    moments: Sequence[Moment]
    earlier: int


def story_of(context: BackupContext, backup_id: str) -> Story:
    """Return the story of a backup from its events. Raises PostgresUnavailable."""
    with postgres_faults("reading the history"), context.pool.connection() as conn:
        stream = context.store.read_stream(conn, ev.stream_of(backup_id))
        elsewhere = [_elsewhere(event) for event in stream]
        actors = context.operations.actors(conn, [one for one in elsewhere if one is not None])
    told = [
        _moment(event, actors.get(subject or "") or event.actor)
        for event, subject in zip(stream, elsewhere, strict=True)
        if event.type in _WORDS
    ]
    moments = _without_repeats([moment for moment in told if moment is not None])
    return Story(moments[-TOLD:], max(0, len(moments) - TOLD))


def _elsewhere(event: StoredEvent) -> str | None:
    """Return the restore or rehearsal that an event tells of: who asked for it is said there."""
    if event.type == ev.RESTORE_USES:
        return str(event.data["restore_id"])
    return str(event.data["rehearsal_id"]) if event.type == ev.REHEARSED else None


def _moment(event: StoredEvent, by: str) -> Moment | None:
    found = _WORDS[event.type](event.data)
    if found is None:
        return None
    return Moment(**{"at": event.occurred_at.isoformat(), "by": by, **found})


def _without_repeats(moments: Sequence[Moment]) -> list[Moment]:
    """Return the story with one line for each row of checks that found nothing: the last of them."""
    following = [*moments[1:], None]
    return [
        one
        for one, after in zip(moments, following, strict=True)
        if after is None or one.word != INTACT or after.word != INTACT
    ]


INTACT: Final = "Stored file checked: intact"
_Told = dict[str, Any]
_Data = Mapping[str, Any]


def _is(shape: str, word: str) -> Callable[[_Data], _Told]:
    return lambda data: {"shape": shape, "word": word, "text": str(data.get("reason") or "")}


def _failed(word: str, shape: str) -> Callable[[_Data], _Told]:
    return lambda data: {"shape": shape, "word": word, "text": data["error"]["message"]}


def _verified(data: _Data) -> _Told:
    found = data["outcome"]
    receipt = found.get("receipt") or {"intact": True}
    if not found["intact"]:
        return {"shape": "bad", "word": "Stored file damaged", "text": found.get("message") or ""}
    if receipt["intact"] is False:
        return {"shape": "bad", "word": "Receipt damaged", "text": receipt.get("message") or ""}
    return {"shape": "good", "word": INTACT}


def _rehearsed(data: _Data) -> _Told:
    shape, word = REHEARSALS.get(data["outcome"], ("warn", str(data["outcome"])))
    text = ""
    if data.get("differing"):
        text = "in " + ", ".join(data["differing"])
    elif data.get("code"):
        text = data["code"]
    return {
        "at": data["rehearsed_at"], "shape": shape, "word": f"Rehearsed: {word.lower()}",
        "text": text, "rehearsal_id": data["rehearsal_id"],
    }  # fmt: skip


def _held(data: _Data) -> _Told:
    return {
        "shape": "hold", "word": f"Held for {data['holder']}", "text": data["reason"],
        "until": data["until"],
    }  # fmt: skip


def _purge_started(data: _Data) -> _Told:
    rule = RULES.get(data["rule"] or "", data["rule"])
    return {"shape": "busy", "word": "Purge begun", "text": rule or data["reason"] or ""}


def _used(data: _Data) -> _Told | None:
    shape, word = {
        ASKED: ("wait", "A restore from it was asked for"),
        APPROVED: ("wait", "A restore from it was approved"),
        RESTORED: ("good", "The instance was restored from it"),
        OVER: ("off", "A restore from it ended: the instance stayed as it was"),
    }.get(data["state"], ("info", "A restore uses it"))
    return {"shape": shape, "word": word, "restore_id": data["restore_id"]}


_WORDS: Final[Mapping[str, Callable[[_Data], _Told | None]]] = {
    ev.REQUESTED: _is("wait", "Asked for"),
    ev.STARTED: _is("busy", "Begun"),
    ev.CREATED: lambda _: {
        "shape": "good", "word": "Proven",
        "text": "read back, decrypted and checked to the last row",
    },
    ev.FAILED: _failed("Failed", "bad"),
    ev.CANCEL_REQUESTED: _is("off", "Cancellation asked for"),
    ev.CANCELLED: _failed("Cancelled", "off"),
    ev.ADOPTED: _is("info", "Taken into the history from its receipt"),
    ev.KEY_VIEWED: _is("key", "Key viewed"),
    ev.KEY_EXPIRING: lambda data: {
        "shape": "warn", "word": "Warned: nobody has viewed its key", "until": data["expires_at"],
    },
    ev.KEY_EXPIRED: _is("bad", "Key expired: nobody had viewed it"),
    ev.VERIFIED: _verified,
    ev.REHEARSED: _rehearsed,
    ev.HELD: _held,
    ev.RELEASED: lambda data: {
        "shape": "off", "word": f"Hold of {data['holder']} released",
        "text": data.get("reason") or "",
    },
    ev.HOLD_EXPIRED: lambda data: {"shape": "off", "word": f"Hold of {data['holder']} is over"},
    ev.RESTORE_USES: _used,
    ev.PURGE_STARTED: _purge_started,
    ev.PURGE_REFUSED: _failed("The storage refused the purge", "bad"),
    ev.PURGE_GIVEN_UP: _is("off", "Purge given up: it stays"),
    ev.PURGED: lambda _: {"shape": "off", "word": "Purged", "text": "the file is gone"},
}  # fmt: skip
