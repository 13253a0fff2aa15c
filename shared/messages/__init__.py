"""What travels over Kafka: CloudEvents, their signatures, the topics they travel on."""

from shared.messages.cloudevents import CloudEvent
from shared.messages.keys import PublicKey, SigningKey
from shared.messages.signing import Issuer, IssuerRegistry, sign, verify

__all__ = ["CloudEvent", "Issuer", "IssuerRegistry", "PublicKey", "SigningKey", "sign", "verify"]
