"""``python -m restore_service --config FILE``"""

from __future__ import annotations

import sys

from restore_service.app import run
from restore_service.settings import RestoreServiceSettings
from serving.start import start
from shared.allocator import bound_allocator

if __name__ == "__main__":
    bound_allocator()
    # Backups are another service's: their folder may be mounted read-only.
    read_only = frozenset({"storage.folder"})
    sys.exit(start("restore_service", RestoreServiceSettings, run, read_only=read_only))
