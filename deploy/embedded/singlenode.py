"""The settings of a single Kafka node, closed from the start, wherever it runs.

Durability: ``log.flush.interval.messages=1`` flushes every append of every topic, Kafka's own
among them, before it is acknowledged. Kafka otherwise relies on replicas, of which one node has
none: a power cut would take acknowledged writes. It costs some milliseconds a batch.
"""

from __future__ import annotations

from collections.abc import Mapping

from deploy.embedded.users import ADMIN, CONTROLLER

MECHANISM = "SCRAM-SHA-256"
FLUSH = "log.flush.interval.messages"
PLAIN_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required"


def single_node(admin_password: str, controller_password: str) -> dict[str, str]:
    """Return all settings but where it listens, who votes and where its data are."""
    controller = f'user_{CONTROLLER}="{controller_password}"'
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "inter.broker.listener.name": "CLIENT",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": MECHANISM,
        "sasl.mechanism.inter.broker.protocol": MECHANISM,
        "sasl.mechanism.controller.protocol": "PLAIN",
        "listener.name.client.scram-sha-256.sasl.jaas.config": (
            f'{SCRAM_LOGIN} username="{ADMIN}" password="{admin_password}";'
        ),
        "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": (
            f'{PLAIN_LOGIN} username="{CONTROLLER}" password="{controller_password}" {controller};'
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{ADMIN};User:{CONTROLLER}",
        "allow.everyone.if.no.acl.found": "false",
        "auto.create.topics.enable": "false",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "4",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "log.segment.bytes": str(256 * 1024 * 1024),
        FLUSH: "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        # After a kill the broker waits for the end of its own earlier session: 9 s otherwise.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }


def as_properties(settings: Mapping[str, str]) -> str:
    """Return the settings as a Java properties file."""
    return "".join(f"{name}={value}\n" for name, value in settings.items())
