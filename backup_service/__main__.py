"""``python -m backup_service --config FILE``"""

from __future__ import annotations

import sys

from backup_service.app import run
from backup_service.settings import BackupServiceSettings
from serving.start import start
from shared.allocator import bound_allocator

if __name__ == "__main__":
    bound_allocator()
    sys.exit(start("backup_service", BackupServiceSettings, run))
