"""The audit trail of a service: its refusals go in here, and whoever may read it does."""

from serving.audit.refusals import RefusalAudit

__all__ = ["RefusalAudit"]
