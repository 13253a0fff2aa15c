"""The audit trail: every action and every refusal, in a chain from the first one."""

from shared.audit.chain import (
    CHECKPOINT,
    GENESIS,
    ChainCheck,
    ChainReport,
    entry_hash,
    verify_chain,
)
from shared.audit.checkpoint import Checkpoint, chain_origin, open_checkpoint, sign_checkpoint
from shared.audit.trail import STREAM, AuditEntry, AuditTrail, storable

__all__ = [
    "CHECKPOINT",
    "GENESIS",
    "STREAM",
    "AuditEntry",
    "AuditTrail",
    "ChainCheck",
    "ChainReport",
    "Checkpoint",
    "chain_origin",
    "entry_hash",
    "open_checkpoint",
    "sign_checkpoint",
    "storable",
    "verify_chain",
]
