"""Rehearsals on a live stack.

asked = ask(live, backup, key)               # 202: the document as it stands
ended = rehearsed(live, backup, key)         # run to its end; nothing of it is left
"""

from __future__ import annotations

from typing import Any

from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live


def ask(live: Live, backup: Json, key: str, **named: Any) -> Json:
    """Ask for a rehearsal of a stored backup, or of the ``upload`` that is named."""
    wanted: Json = {"target_instance_id": live.instance_id, "reason": "a test"}
    if "upload" not in named:
        wanted["backup_id"] = backup["backup_id"]
    return plain(live.services.rehearsals.start(key_file_text=key, **(wanted | named)))


def rehearsed(live: Live, backup: Json, key: str, **named: Any) -> Json:
    """Rehearse to the end, and look that nothing is left."""
    asked = ask(live, backup, key, **named)
    ended = live.services.rehearsals.wait(asked["rehearsal_id"])
    assert not scratch(live)
    return plain(ended)


def scratch(live: Live) -> set[str]:
    """Return the scratch schemas that exist."""
    return {name for name in live.schemas() if name.startswith("instance_rehearsal_")}


def shown_rehearsal(live: Live, backup: Json, rehearsal: Json) -> Json:
    """Return what the backup's history shows of ``rehearsal``, once it does."""
    identity = rehearsal["rehearsal_id"]

    def look() -> Json | None:
        shown = live.services.backups.get(backup["backup_id"])
        found: Json = plain(shown["rehearsal"] or {})
        return plain(shown) if found.get("rehearsal_id") == identity else None

    found: Json = eventually(look, "the history shows the rehearsal")
    return found
