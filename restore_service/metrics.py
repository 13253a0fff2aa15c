"""What is counted beside the HTTP requests."""

from __future__ import annotations

from prometheus_client import Counter


def glass_counter() -> Counter:
    """Return a counter, not registered yet, of the restores that went without an approval."""
    return Counter(
        "secryn_restore_glass_broken",
        "Restores that the operator began without the approval that the policy asks for",
        registry=None,
    )
