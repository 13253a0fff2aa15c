"""A rehearsal proves what a restore would give, and the instance notices nothing of it."""

from __future__ import annotations

from typing import Any

from tests.plugins.live import Json, Live


def ask(live: Live, backup: Json, key: str, **named: Any) -> Json:
    wanted: dict[str, Any] = {"target_instance_id": live.instance_id, "reason": "a test"}
    if "upload" not in named:
        wanted["backup_id"] = backup["backup_id"]
    return live.services.rehearsals.start(key_file_text=key, **(wanted | named))


def rehearsed(live: Live, backup: Json, key: str, **named: Any) -> Json:
    """Rehearse, and look that nothing is left."""
    asked = ask(live, backup, key, **named)
    ended = live.services.rehearsals.wait(asked["rehearsal_id"])
    assert not scratch(live)
    return ended


def scratch(live: Live) -> set[str]:
    return {name for name in live.schemas() if name.startswith("instance_rehearsal_")}


def test_a_good_backup_is_proven_twice_and_the_instance_is_as_it_was(live: Live) -> None:
    live.write(60)
    backup, key = live.backup()
    live.write(20, seed=2)
    before = live.state()

    ended = rehearsed(live, backup, key)

    assert (ended["state"], ended["outcome"]) == ("rehearsed", "restorable"), ended
    proof = ended["proof"]
    assert (proof["digest"], proof["equal"], proof["equivalent"]) == (backup["digest"], True, True)
    assert proof["equivalence"]["digest"] == backup["digest"]
    assert proof["equivalence"]["applied"] > 1000
    assert ended["rows"] == sum(table["rows"] for table in backup["tables"].values())
    assert (ended["sha256"], ended["size_bytes"]) == (backup["sha256"], backup["size_bytes"])
    assert {"check", "load", "indexes", "compare", "prepare", "fold"} <= set(ended["durations"])
    assert 0 < ended["estimate"]["writers_held_s"] < ended["estimate"]["restore_s"]
    assert ended["obstacles"] == []
    assert live.state() == before
