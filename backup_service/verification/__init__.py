"""Stored objects, read back in turn without their keys, and compared with the history."""
