"""The settings of Kafka in its own image, which formats its folder without any user.

So ``admin`` comes in by PLAIN, whose users stand in this file, and makes the services' users
(SCRAM-SHA-256). Only ``secryn place provision`` does that, inside the containers' network.
"""

from __future__ import annotations

from typing import Final

from deploy.embedded.place import Place
from deploy.embedded.singlenode import (
    MECHANISM,
    PLAIN_LOGIN,
    SCRAM_LOGIN,
    as_properties,
    single_node,
)
from deploy.embedded.users import ADMIN

SERVER_PROPERTIES: Final = "server.properties"
DATA: Final = "/var/lib/kafka/data"
ADMIN_MECHANISM: Final = "PLAIN"


def broker_properties(place: Place, admin_password: str, controller_password: str) -> str:
    """Return ``server.properties`` for the image ``apache/kafka``."""
    listen, ports = place.hosts.listen, place.ports
    admin = f'username="{ADMIN}" password="{admin_password}" user_{ADMIN}="{admin_password}"'
    return as_properties(
        single_node(admin_password, controller_password)
        | {
            # The image formats with static voters.
            "controller.quorum.voters": f"1@{place.hosts.kafka}:{ports.kafka_controller}",
            "listeners": (
                f"CLIENT://{listen}:{ports.kafka},CONTROLLER://{listen}:{ports.kafka_controller}"
            ),
            "advertised.listeners": f"CLIENT://{place.hosts.kafka}:{ports.kafka}",
            "sasl.enabled.mechanisms": f"{MECHANISM},{ADMIN_MECHANISM}",
            "sasl.mechanism.inter.broker.protocol": ADMIN_MECHANISM,
            "listener.name.client.scram-sha-256.sasl.jaas.config": f"{SCRAM_LOGIN};",
            "listener.name.client.plain.sasl.jaas.config": f"{PLAIN_LOGIN} {admin};",
            "log.dirs": DATA,
        }
    )
