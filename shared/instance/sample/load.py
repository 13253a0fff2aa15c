"""Fill an instance with the sample, fast, and say what was written."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from shared.database import Connection
from shared.errors import SampleAlreadyLoaded
from shared.instance.sample.generator import example_path, first_role, sample
from shared.instance.stored import Written
from shared.instance.writer import InstanceWriter, NewEvent, OnProgress

# Events of one copy, about: what a progress bar expects.
EVENTS_PER_COPY: Final = 3_200


@dataclass(frozen=True)
class LoadSummary:
    """What a load wrote; ``last`` is where its last event stands."""

    events: int
    by_type: dict[str, int]
    last: Written
    example_secret: str
    seed: int
    scale: int
    elapsed_s: float

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        found = asdict(self)
        last = found.pop("last")
        return found | {"offset": last["offset"], "epoch": last["epoch"]}


def check_not_loaded(conn: Connection, seed: int) -> None:
    """Raise SampleAlreadyLoaded when the store holds the sample of ``seed``."""
    found = conn.execute("SELECT 1 FROM instance.roles WHERE id = %s", (first_role(seed),))
    if found.fetchone() is not None:
        raise SampleAlreadyLoaded(f"the instance holds the sample of seed {seed}")


def load(
    writer: InstanceWriter, *, seed: int, scale: int, on_progress: OnProgress | None = None
) -> LoadSummary:
    """Write ``scale`` copies of the sample of ``seed``, then rotate a data key.

    Raises what InstanceWriter.append_all raises.
    """
    started = time.monotonic()
    kinds: Counter[str] = Counter()

    def counted() -> Iterator[NewEvent]:
        for new in sample(seed, scale, writer.seal):
            kinds[new.event.TYPE] += 1
            yield new

    writer.append_all(counted(), on_progress)
    # What comes after the sample is sealed under another key: a keyring has a past too.
    last = writer.rotate_data_key("secret")
    elapsed_s = round(time.monotonic() - started, 2)
    return LoadSummary(kinds.total(), dict(kinds), last, example_path(seed), seed, scale, elapsed_s)
