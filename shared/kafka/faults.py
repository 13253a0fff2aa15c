"""Errors of the Kafka client become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka import errors

from shared.errors import (
    AccessError,
    KafkaUnavailable,
    LogLost,
    ProducerFenced,
    SecrynError,
    ValueTooLarge,
)

_FENCED = (
    errors.ProducerFencedError,
    errors.InvalidProducerEpochError,
    errors.TransactionCoordinatorFencedError,
)
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_OUTSIDE = (errors.OffsetOutOfRangeError, errors.NoOffsetForPartitionError)


@contextmanager
def kafka_faults(doing: str) -> Iterator[None]:
    """Raise what the client raises while ``doing`` something as one of our errors."""
    try:
        yield
    except errors.KafkaError as error:
        raise translate(error, doing) from error
    except OSError as error:
        raise KafkaUnavailable(f"Kafka does not answer while {doing}: {error}") from error


def translate(error: BaseException, doing: str) -> SecrynError:
    """Return our error for one of the client's."""
    name = type(error).__name__
    if isinstance(error, _FENCED):
        return ProducerFenced(f"another process took over while {doing}")
    if isinstance(error, errors.AuthorizationError):
        return AccessError(f"Kafka denies {doing} ({name})")
    if isinstance(error, _TOO_LARGE):
        return ValueTooLarge(f"a record is too large for the topic ({name})")
    if isinstance(error, _OUTSIDE):
        return LogLost(f"the log does not reach to where it is read ({name})")
    return KafkaUnavailable(f"Kafka failed while {doing} ({name})")
