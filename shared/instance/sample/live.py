"""Keep writing to an instance at a given rate, as its users do all day."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from random import Random
from typing import Final
from uuid import UUID, uuid4

from shared.errors import EpochChanged, FenceOpen
from shared.instance import events as ev
from shared.instance.sample import names, values
from shared.instance.stored import Written
from shared.instance.writer import InstanceWriter, NewEvent

# Secrets that are written again and again; older ones are left alone.
_KEPT_SECRETS: Final = 500
_FENCE_PAUSE_S: Final = 0.2
_HEARTBEAT: Final = "live.heartbeat"


@dataclass
class LiveSummary:
    """What was written; ``events`` were acknowledged by the log.

    ``last`` is where the last one stands, or None when a fence or a restore came between.
    """

    events: int = 0
    last: Written | None = None
    fences_met: int = 0
    epochs_met: int = 0
    elapsed_s: float = 0.0

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        found = asdict(self)
        last = found.pop("last") or {"offset": None, "epoch": None}
        return found | {"offset": last["offset"], "epoch": last["epoch"]}


class _Life:
    """A project of this run's own, and what lives in it."""

    def __init__(self, rng: Random, writer: InstanceWriter) -> None:
        self._rng = rng
        self._writer = writer
        self._project, self._vault = uuid4(), uuid4()
        self._secrets: deque[tuple[UUID, str, str, int]] = deque()
        self._number = 0

    def events(self) -> Iterator[ev.InstanceEvent]:
        """Yield events without end."""
        name = f"live-{self._project.hex[:12]}"
        yield ev.ProjectCreated(id=self._project, name=name, description="Written just now")
        yield ev.VaultCreated(id=self._vault, project_id=self._project, name="live")
        while True:
            yield self._next()

    def _next(self) -> ev.InstanceEvent:
        self._number += 1
        draw = self._rng.random()
        if not self._secrets or draw < 0.3:
            return self._create()
        if draw < 0.85:
            return self._add_version()
        if draw < 0.92:
            secret, name, _, _ = self._rng.choice(self._secrets)
            labels = {"team": self._rng.choice(names.TEAMS)}
            return ev.SecretUpdated(id=secret, vault_id=self._vault, name=name, labels=labels)
        if draw < 0.96:
            index = self._rng.randrange(len(self._secrets))
            secret = self._secrets[index][0]
            del self._secrets[index]
            return ev.SecretDeleted(id=secret)
        return ev.SettingSet(name=_HEARTBEAT, value={"events": self._number})

    def _create(self) -> ev.InstanceEvent:
        kind = values.draw_kind(self._rng)
        secret, name = uuid4(), names.secret_name(self._rng, kind, self._number)
        self._secrets.append((secret, name, kind, 1))
        if len(self._secrets) > _KEPT_SECRETS:
            self._secrets.popleft()
        value = values.KINDS[kind](self._rng)
        return ev.SecretCreated(
            id=secret,
            vault_id=self._vault,
            name=name,
            kind=kind,
            sealed=self._writer.seal(value, "secret", secret, 1),
            size_bytes=len(value),
        )

    def _add_version(self) -> ev.InstanceEvent:
        index = self._rng.randrange(len(self._secrets))
        secret, name, kind, version = self._secrets[index]
        self._secrets[index] = (secret, name, kind, version + 1)
        value = values.KINDS[kind](self._rng)
        return ev.SecretVersionAdded(
            id=secret,
            version=version + 1,
            sealed=self._writer.seal(value, "secret", secret, version + 1),
            size_bytes=len(value),
        )


class LiveWriter:
    """Writes through fences and restores: it waits for the one and begins anew after the other."""

    def __init__(self, writer: InstanceWriter, *, rate: float, seconds: float, seed: int) -> None:
        self._writer = writer
        self._rate = rate
        self._seconds = seconds
        self._rng = Random(seed)  # noqa: S311 - samples, no secrets
        self.summary = LiveSummary()

    def run(self, on_progress: Callable[[int], None] | None = None) -> LiveSummary:
        """Write until the time is over. Raises KafkaUnavailable, PostgresUnavailable."""
        started = time.monotonic()
        while time.monotonic() - started < self._seconds:
            before = self.summary.events

            def note(acknowledged: int, _: int, before: int = before) -> None:
                self.summary.events = before + acknowledged
                if on_progress is not None:
                    on_progress(self.summary.events)

            self.summary.last = None
            events = self._paced(_Life(self._rng, self._writer), started)
            try:
                self.summary.last = self._writer.append_all(events, note)
            except FenceOpen:
                self.summary.fences_met += 1
                time.sleep(_FENCE_PAUSE_S)
            except EpochChanged:
                self.summary.epochs_met += 1
        self.summary.elapsed_s = round(time.monotonic() - started, 2)
        return self.summary

    def wait_until_stored(self, timeout_s: float) -> None:
        """Wait for the last event, unless a restore overtook it. Raises StoreBehind."""
        if self.summary.last is None:
            return
        try:
            self._writer.wait_until_stored(self.summary.last, timeout_s)
        except FenceOpen:
            self.summary.fences_met += 1
        except EpochChanged:
            self.summary.epochs_met += 1

    def _paced(self, life: _Life, started: float) -> Iterator[NewEvent]:
        # From now on, not from the beginning: after a fence it does not hurry to catch up.
        begun = time.monotonic()
        for count, event in enumerate(life.events()):
            due = begun + count / self._rate
            now = time.monotonic()
            if max(due, now) - started >= self._seconds:
                return
            if due > now:
                time.sleep(due - now)
            yield NewEvent(event, actor=f"live-{self._rng.randrange(5)}")
