"""A typed, synchronous client of both services: what `secryn` is built on."""

from shared.client.access import AccessClient
from shared.client.audit import AuditClient
from shared.client.backups import BackupClient
from shared.client.configuration import ConfigurationClient
from shared.client.http import ServiceConnection
from shared.client.keys import KeyClient, KeyRequest, take_key
from shared.client.operations import OperationsClient
from shared.client.rehearsals import RehearsalClient
from shared.client.restores import RestoreClient
from shared.client.retention import RetentionClient

__all__ = [
    "AccessClient",
    "AuditClient",
    "BackupClient",
    "ConfigurationClient",
    "KeyClient",
    "KeyRequest",
    "OperationsClient",
    "RehearsalClient",
    "RestoreClient",
    "RetentionClient",
    "ServiceConnection",
    "take_key",
]
