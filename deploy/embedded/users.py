"""Who is who on the embedded Kafka."""

from __future__ import annotations

ADMIN = "admin"
CONTROLLER = "controller"
# The users of the services, and of whoever writes the instance.
USERS = ("projector", "backup", "restore", "platform")
ALL_USERS = (ADMIN, *USERS)
