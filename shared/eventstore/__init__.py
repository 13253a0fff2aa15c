"""A service's events: its state, and at the same time what it publishes."""

from shared.eventstore.consumer import CommandConsumer, ReceivedCommand
from shared.eventstore.follower import EventFollower
from shared.eventstore.relay import Relay
from shared.eventstore.store import Delivery, EventMeta, EventStore, NewEvent, StoredEvent

__all__ = [
    "CommandConsumer",
    "Delivery",
    "EventFollower",
    "EventMeta",
    "EventStore",
    "NewEvent",
    "ReceivedCommand",
    "Relay",
    "StoredEvent",
]
