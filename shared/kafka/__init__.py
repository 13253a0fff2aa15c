"""The one adapter over the Kafka client; nothing else of ours imports it."""

from shared.kafka.admin import LogAdmin, LogIdentity, TopicSpec
from shared.kafka.connection import PATIENCE_S, Kafka
from shared.kafka.consumer import GroupConsumer
from shared.kafka.producer import Delivered, OutgoingMessage, Producer, TransactionalProducer
from shared.kafka.reader import Batch, LogReader, Record

__all__ = [
    "PATIENCE_S",
    "Batch",
    "Delivered",
    "GroupConsumer",
    "Kafka",
    "LogAdmin",
    "LogIdentity",
    "LogReader",
    "OutgoingMessage",
    "Producer",
    "Record",
    "TopicSpec",
    "TransactionalProducer",
]
