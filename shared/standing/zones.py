"""Time zones by their IANA names."""

from __future__ import annotations

import difflib
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

# What a machine calls its own zone is another one elsewhere.
_NO_NAMES = frozenset({"localtime", "Factory"})


@cache
def zone_names() -> frozenset[str]:
    """Return every name that is known here, from the system or from the package tzdata."""
    return frozenset(available_timezones() - _NO_NAMES)


def read_zone(name: str) -> ZoneInfo:
    """Return the zone. Raises ValueError with names that are near."""
    if name not in zone_names():
        near = near_names(name)
        instead = f"write {' or '.join(near)}" if near else "write one like Europe/Berlin or UTC"
        raise ValueError(f"no time zone has the name {name[:64]!r}: {instead}")
    return ZoneInfo(name)


def near_names(name: str) -> list[str]:
    """Return up to three names that could have been meant."""
    by_folded = {known.casefold(): known for known in sorted(zone_names(), reverse=True)}
    folded = name[:64].strip().casefold().replace(" ", "_")
    if folded in by_folded:
        return [by_folded[folded]]
    # Most often the city alone.
    cities = [known for low, known in by_folded.items() if low.rpartition("/")[2] == folded]
    found = sorted(cities, key=lambda known: (len(known), known))
    found += [by_folded[low] for low in difflib.get_close_matches(folded, by_folded, 3, 0.7)]
    return list(dict.fromkeys(found))[:3]
