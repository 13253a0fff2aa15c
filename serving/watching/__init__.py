"""Watching what runs: server-sent events with resume, and long polling for who cannot have them."""

from serving.watching.answers import (
    EVENT_STREAM,
    FOLLOWS,
    WAITS,
    WaitQuery,
    follow,
    follow_list,
    show,
)
from serving.watching.board import WatchBoard, Watched

__all__ = [
    "EVENT_STREAM", "FOLLOWS", "WAITS", "WaitQuery", "WatchBoard", "Watched", "follow",
    "follow_list", "show",
]  # fmt: skip
