"""Two backups of one log prove each other: the older one, and what the log says between them."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from shared.archive.receipt import encode_receipt
from shared.errors import (
    BackupNotFound,
    CrossesRestore,
    LogLost,
    ReceiptInvalid,
    RehearsalDiffers,
    RollForwardRange,
    SignerUntrusted,
)
from shared.messages import SigningKey
from tests.plugins.live import Json, Live
from tests.rehearsing import rehearsed, shown_rehearsal


def chained(live: Live, backup: Json, key: str, following: object) -> Json:
    return rehearsed(live, backup, key, next_backup_id=str(following), fold_log=False)


def refused(live: Live, backup: Json, key: str, following: object) -> str:
    before = live.state()
    ended = chained(live, backup, key, following)
    assert (ended["state"], live.state()) == ("failed", before)
    return str(ended["error"]["code"])


def test_two_good_backups_prove_each_other_and_one_key_is_enough(
    live: Live, tmp_path: Path
) -> None:
    first, key = live.backup()
    live.write(60, seed=11)
    second, _ = live.backup()
    key_file = tmp_path / "key"
    key_file.write_text(key)
    done = live.stack.secryn(
        *("restore", "chain", "--backup", first["backup_id"], "--key-file", str(key_file)),
        *("--next", second["backup_id"], "--instance", live.instance_id),
    )
    ended = json.loads(done.stdout)
    assert ended["outcome"] == "restorable"
    rolled = ended["proof"]["roll_forward"]
    assert (rolled["equal"], rolled["differing"], rolled["to"]) == (True, [], second["offset"])
    assert rolled["digest"] == second["digest"] != first["digest"]
    shown = shown_rehearsal(live, first, ended)["rehearsal"]
    assert (shown["outcome"], shown["next_backup_id"]) == ("restorable", second["backup_id"])
    # Of itself, and across a restore of the older one, too.
    assert chained(live, first, key, first["backup_id"])["outcome"] == "restorable"
    live.restore(first, key)
    live.write(20, seed=12)
    third, _ = live.backup()
    assert chained(live, first, key, third["backup_id"])["outcome"] == "restorable"


def test_a_store_that_was_changed_between_them_is_found(live: Live, tmp_path: Path) -> None:
    live.add_project("to be renamed")
    first, key = live.backup()
    live.write(20, seed=21)
    with live.admin() as conn:
        conn.execute("UPDATE instance.projects SET name = 'renamed' WHERE name = 'to be renamed'")
        second, _ = live.backup()
        conn.execute("UPDATE instance.projects SET name = 'to be renamed' WHERE name = 'renamed'")
    ended = chained(live, first, key, second["backup_id"])
    assert (ended["state"], ended["outcome"]) == ("rehearsed", "differs")
    rolled = ended["proof"]["roll_forward"]
    assert (rolled["equal"], [found["table"] for found in rolled["differing"]]) == (
        False,
        ["projects"],
    )
    assert shown_rehearsal(live, first, ended)["rehearsal"]["differing"] == ["projects"]
    key_file = tmp_path / "key"
    key_file.write_text(key)
    done = live.stack.secryn(
        *("restore", "chain", "--backup", first["backup_id"], "--key-file", str(key_file)),
        *("--next", second["backup_id"], "--instance", live.instance_id),
        check=False,
    )
    assert done.returncode == RehearsalDiffers.exit_code


def test_what_is_no_pair_is_refused(live: Live, empty_live: Live, tmp_path: Path) -> None:
    first, _ = live.backup()
    live.add_project(f"between the two {uuid4()}")
    second, key = live.backup()
    assert refused(live, second, key, first["backup_id"]) == RollForwardRange.code
    assert refused(live, second, key, uuid4()) == BackupNotFound.code
    foreign, _ = empty_live.backup()
    receipt = Path(foreign["location"].removeprefix("file:")).parent
    name = f"{foreign['backup_id']}.receipt.json"
    storage = Path(second["location"].removeprefix("file:")).parent
    (storage / name).write_bytes((receipt / name).read_bytes())
    assert refused(live, second, key, foreign["backup_id"]) == SignerUntrusted.code
    ended = rehearsed(
        live,
        second,
        key,
        next_backup_id=foreign["backup_id"],
        trust_signer=foreign["signer"],
        fold_log=False,
    )
    assert ended["error"]["code"] == LogLost.code
    (storage / name).unlink()


@pytest.mark.parametrize("forged", ["digest", "offset", "signer"])
def test_a_receipt_that_was_altered_proves_nothing(live: Live, tmp_path: Path, forged: str) -> None:
    first, key = live.backup()
    live.add_project(f"between {uuid4()}")
    second, _ = live.backup()
    receipt = Path(second["location"].removeprefix("file:").removesuffix(".age") + ".receipt.json")
    genuine = receipt.read_bytes()
    document = json.loads(genuine)
    if forged == "signer":
        forger = SigningKey.create(tmp_path / "forger.key")
        document = json.loads(
            encode_receipt(document["receipt"] | {"signer": forger.fingerprint}, forger)
        )
    elif forged == "digest":
        document["receipt"]["digest"] = first["digest"]
    else:
        document["receipt"]["offset"] = first["offset"]
    receipt.chmod(0o600)
    receipt.write_text(json.dumps(document))
    wanted = SignerUntrusted.code if forged == "signer" else ReceiptInvalid.code
    assert refused(live, first, key, second["backup_id"]) == wanted
    receipt.write_bytes(genuine)
    assert chained(live, first, key, second["backup_id"])["outcome"] == "restorable"


def test_across_a_restore_of_another_state_there_is_no_way(live: Live) -> None:
    older, older_key = live.backup()
    live.add_project(f"only in the first of the two {uuid4()}")
    first, key = live.backup()
    live.restore(older, older_key)
    second, _ = live.backup()
    assert refused(live, first, key, second["backup_id"]) == CrossesRestore.code
    # Though the log alone leads there: that would prove nothing of the first.
    whole = rehearsed(live, first, key, roll_forward=second["offset"])
    assert whole["proof"]["roll_forward"]["digest"] == second["digest"]
