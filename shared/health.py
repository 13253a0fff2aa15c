"""What a part says of itself when it is not ready."""

from __future__ import annotations


class LastingFault(str):
    """A fault that no waiting mends: it says what a person has to do."""

    __slots__ = ()
