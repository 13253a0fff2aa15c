"""``python -m backup_service.projector --config FILE``."""

from __future__ import annotations

import sys

from backup_service.projector.app import run
from backup_service.projector.settings import ProjectorSettings
from backup_service.projector.web import SERVICE
from serving.start import start

if __name__ == "__main__":
    # It opens nothing and signs nothing: a place need not give it the keys for that.
    unopened = frozenset(
        {"place.root_key_file", "place.signing_key_file", "place.trusted_signers_file"}
    )
    sys.exit(
        start(SERVICE, ProjectorSettings, run, module="backup_service.projector", unopened=unopened)
    )
