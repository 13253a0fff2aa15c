"""Users of a Kafka of ours that was formatted without them."""

from __future__ import annotations

from collections.abc import Mapping

from kafka.admin import KafkaAdminClient, UserScramCredentialUpsertion

from deploy.embedded.singlenode import MECHANISM
from shared.errors import StackError


def ensure_logins(admin: KafkaAdminClient, passwords: Mapping[str, str]) -> None:
    """Let every user of ``passwords`` log in with its password, and with no other.

    The salted password is computed here: the password itself reaches neither Kafka nor its log.
    Raises StackError when one is refused.
    """
    answer = admin.alter_user_scram_credentials(
        [
            UserScramCredentialUpsertion(user, MECHANISM, password)
            for user, password in passwords.items()
        ]
    )
    refused = sorted(user for user, fault in answer.items() if fault is not None)
    if refused:
        raise StackError(f"Kafka refused the users {', '.join(refused)}")
