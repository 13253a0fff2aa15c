"""A restore that rolls forward: the state is the fold of the log before X, exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from shared.errors import CrossesRestore, LogGap, LogLost, RollForwardRange, error_class
from shared.instance.events import Restored
from shared.messages.topics import INSTANCE_EVENTS
from tests.documents import plain
from tests.plugins.live import Json, Live


def rolled(live: Live, backup: Json, key: str, to: object) -> Json:
    asked = live.start(key, backup_id=backup["backup_id"], roll_forward=to)
    return plain(live.services.restores.wait(asked["restore_id"]))


def refused(live: Live, backup: Json, key: str, to: object) -> Json:
    before = live.state()
    ended = rolled(live, backup, key, to)
    assert (ended["state"], live.state()) == ("failed", before)
    error: Json = ended["error"]
    return error


def test_to_an_offset_to_a_moment_and_to_the_end(live: Live) -> None:
    backup, key = live.backup()
    live.write(40)
    live.add_project("the last that is wanted")
    wanted, offset = live.digest(), live.position().position
    moment = datetime.now(UTC) + timedelta(milliseconds=1)
    live.write(40, seed=2)
    live.add_project("unwanted, ahead")
    end = live.digest()

    latest = rolled(live, backup, key, "latest")
    assert (latest["state"], live.digest()) == ("restored", end)
    assert latest["proof"]["roll_forward"]["applied"] > 20

    to_offset = rolled(live, backup, key, offset)
    assert (to_offset["state"], live.digest()) == ("restored", wanted)
    (event,) = live.events_about(INSTANCE_EVENTS, Restored.TYPE, to_offset["restore_id"])
    assert event["source"]["snapshot_offset"] == backup["offset"]
    assert event["source"]["position"] == offset

    to_moment = rolled(live, backup, key, moment.isoformat())
    assert (to_moment["state"], live.digest()) == ("restored", wanted)
    live.add_project("life goes on, rolled forward")
    assert "life goes on, rolled forward" in live.projects()


def test_it_follows_the_restores_and_the_undos_on_the_way(live: Live) -> None:
    first, first_key = live.backup()
    live.add_project("after the first backup")
    second, second_key = live.backup()
    live.add_project("replaced by the restore")
    before_restore = live.digest()
    live.restore(second, second_key)
    live.add_project("after the restore of the second")
    wanted, offset = live.digest(), live.position().position
    asked = live.services.restores.undo(target_instance_id=live.instance_id, reason="a test")
    live.services.restores.wait(asked["restore_id"])
    undone_at = live.position().position
    assert live.digest() == before_restore

    assert rolled(live, first, first_key, offset)["state"] == "restored"
    assert live.digest() == wanted
    assert rolled(live, first, first_key, undone_at)["state"] == "restored"
    assert live.digest() == before_restore


def test_a_state_that_only_the_whole_log_has_is_made_from_its_beginning(live: Live) -> None:
    old, old_key = live.backup()
    live.add_project("between the backups")
    new, new_key = live.backup()
    live.restore(old, old_key)
    live.add_project("after the restore of the old one")
    wanted, offset = live.digest(), live.position().position
    live.add_project("unwanted, beside")
    ended = rolled(live, new, new_key, offset)
    assert (ended["state"], live.digest()) == ("restored", wanted)


@pytest.mark.parametrize("to", ["before", "behind", "tomorrow"])
def test_a_place_outside_of_backup_and_log_is_refused(live: Live, to: str) -> None:
    live.add_project(f"something to have an offset {to}")
    backup, key = live.backup()
    places: dict[str, object] = {
        "before": backup["offset"] - 1,
        "behind": backup["offset"] + 10_000,
        "tomorrow": "soon",
    }
    if to == "tomorrow":
        with pytest.raises(error_class("usage.invalid")):
            rolled(live, backup, key, places[to])
        return
    assert refused(live, backup, key, places[to])["code"] == RollForwardRange.code


def test_a_way_across_a_restore_from_another_log_is_refused_and_names_a_way_out(
    live: Live, empty_live: Live, tmp_path: Path
) -> None:
    here = empty_live
    early, early_key = here.backup()
    foreign, foreign_key = live.backup()
    replaced = here.restore_file(
        live.archive(foreign, tmp_path), foreign_key, source_instance_id=live.instance_id
    )
    assert replaced["state"] == "restored", replaced
    late, late_key = here.backup()
    here.add_project("behind both")
    end = here.digest()

    error = refused(here, early, early_key, "latest")
    assert error["code"] == CrossesRestore.code
    assert replaced["restore_id"] in error["message"]
    assert str(replaced["fence_offset"]) in error["hint"]
    assert late["backup_id"] in error["hint"]
    # Up to that restore, and from behind it, there is a way.
    assert rolled(here, late, late_key, "latest")["state"] == "restored"
    assert here.digest() == end
    ended = rolled(here, early, early_key, replaced["fence_offset"])
    assert (ended["state"], here.digest()) == ("restored", early["digest"])

    # Nor is there one over a log that is not the archive's.
    asked = here.start(
        foreign_key,
        upload=here.services.restores.upload(tmp_path / f"{foreign['backup_id']}.age"),
        source_instance_id=live.instance_id,
        roll_forward="latest",
    )
    ended = plain(here.services.restores.wait(asked["restore_id"]))
    assert (ended["state"], ended["error"]["code"]) == ("failed", LogLost.code)


def test_a_log_that_was_cut_behind_the_backup_is_refused_with_the_offsets(empty_live: Live) -> None:
    backup, key = empty_live.backup()
    empty_live.add_project("to be forgotten by the log")
    cut = empty_live.position().position
    newer, newer_key = empty_live.backup()
    empty_live.add_project("still there")
    end = empty_live.digest()
    delete_before(empty_live, cut)
    error = refused(empty_live, backup, key, "latest")
    assert error["code"] == LogGap.code
    assert f"{backup['offset']} to {cut - 1}" in error["message"]
    assert rolled(empty_live, newer, newer_key, "latest")["state"] == "restored"
    assert empty_live.digest() == end


def delete_before(live: Live, offset: int) -> None:
    kafka = live.kafka()
    admin = KafkaAdminClient(**kafka._options())
    try:
        admin.delete_records({TopicPartition(kafka.topic(INSTANCE_EVENTS), 0): offset})
    finally:
        admin.close()
