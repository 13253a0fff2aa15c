"""Recent Operations: what was done to the instance's backups and restores, in one list."""

from backup_service.operations.model import Operations
from backup_service.operations.query import ChangesQuery, FollowQuery, OperationsQuery

__all__ = ["ChangesQuery", "FollowQuery", "Operations", "OperationsQuery"]
