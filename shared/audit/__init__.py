"""The audit trail: every action and every refusal, in a chain from the first one."""

from shared.audit.chain import GENESIS, ChainReport, entry_hash, verify_chain
from shared.audit.trail import AuditEntry, AuditTrail, storable

__all__ = [
    "GENESIS",
    "AuditEntry",
    "AuditTrail",
    "ChainReport",
    "entry_hash",
    "storable",
    "verify_chain",
]
