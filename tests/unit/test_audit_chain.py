"""The audit chain: whatever is done to it is found, and the first bad entry named."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.audit import GENESIS, entry_hash, verify_chain

Entry = dict[str, Any]
LENGTH = 6


def chain(length: int = LENGTH, first: str = "backup.created") -> list[Entry]:
    entries: list[Entry] = []
    for seq in range(1, length + 1):
        entry: Entry = {
            "seq": seq,
            "prev_hash": entries[-1]["hash"] if entries else GENESIS,
            "api": {"operation": first if seq == 1 else f"operation {seq} \u00e4"},
            "unmapped": {"log_offset": None, "details": {"parts": [1, 2.5, True]}},
        }
        entry["hash"] = entry_hash(entry)
        entries.append(entry)
    return entries


def rehash(entries: list[Entry]) -> list[Entry]:
    """Hash every entry anew without mending what binds it to the one before."""
    return [entry | {"hash": entry_hash(entry)} for entry in entries]


@pytest.mark.parametrize("length", [0, 1, LENGTH])
def test_a_whole_chain_is_intact(length: int) -> None:
    entries = chain(length)
    report = verify_chain(entries)
    assert report.intact
    assert report.entries == length
    assert report.head == (entries[-1]["hash"] if entries else GENESIS)
    assert report.bad_seq is None


def test_a_chain_that_went_through_json_is_still_intact() -> None:
    text = json.dumps(chain(), indent=2, ensure_ascii=False)
    assert verify_chain(json.loads(text)).intact


def test_the_order_of_the_names_in_an_entry_does_not_matter() -> None:
    assert verify_chain([dict(reversed(entry.items())) for entry in chain()]).intact


@pytest.mark.parametrize("removed", range(1, LENGTH))
def test_a_removed_entry_is_found(removed: int) -> None:
    report = verify_chain([entry for entry in chain() if entry["seq"] != removed])
    assert not report.intact
    assert report.bad_seq == removed
    assert report.entries == removed - 1
    assert report.reason is not None
    assert f"entry {removed} is missing" in report.reason


def test_entries_cut_off_at_the_end_show_in_the_head() -> None:
    whole, cut = verify_chain(chain()), verify_chain(chain()[:-1])
    assert cut.intact
    assert (cut.head, cut.entries) != (whole.head, whole.entries)


@pytest.mark.parametrize("changed", range(1, LENGTH + 1))
def test_a_changed_entry_is_found(changed: int) -> None:
    entries = copy.deepcopy(chain())
    entries[changed - 1]["unmapped"]["details"]["parts"][0] = 9
    report = verify_chain(entries)
    assert report.bad_seq == changed
    assert report.reason == f"entry {changed} was changed"


@pytest.mark.parametrize("changed", range(1, LENGTH))
def test_a_changed_entry_with_a_new_hash_is_found_at_the_next(changed: int) -> None:
    entries = copy.deepcopy(chain())
    entries[changed - 1]["api"]["operation"] = "nothing happened"
    report = verify_chain(rehash(entries))
    assert report.bad_seq == changed + 1
    assert report.reason == f"entry {changed + 1} does not follow the one before"


@pytest.mark.parametrize("position", range(LENGTH - 1))
def test_two_exchanged_entries_are_found(position: int) -> None:
    entries = chain()
    entries[position], entries[position + 1] = entries[position + 1], entries[position]
    assert verify_chain(entries).bad_seq == position + 1


def test_exchanged_entries_that_were_numbered_anew_are_found() -> None:
    entries = chain()
    entries[2], entries[3] = entries[3] | {"seq": 3}, entries[2] | {"seq": 4}
    report = verify_chain(rehash(entries))
    assert report.bad_seq == 3
    assert report.reason == "entry 3 does not follow the one before"


def test_a_repeated_entry_is_found() -> None:
    entries = chain()
    assert verify_chain([*entries[:3], entries[2], *entries[3:]]).bad_seq == 4


def test_an_entry_put_in_between_is_found() -> None:
    entries = chain()
    forged = {"seq": 3, "prev_hash": entries[1]["hash"], "api": {"operation": "forged"}}
    forged["hash"] = entry_hash(forged)
    later = [entry | {"seq": entry["seq"] + 1} for entry in entries[2:]]
    assert verify_chain([*entries[:2], forged, *rehash(later)]).bad_seq == 4


def test_the_tail_of_another_chain_does_not_fit() -> None:
    other = chain(first="restore.created")
    assert verify_chain([*chain()[:3], *other[3:]]).bad_seq == 4


def test_a_chain_does_not_begin_in_the_middle() -> None:
    assert verify_chain(chain()[2:]).bad_seq == 1


@pytest.mark.parametrize("name", ["seq", "prev_hash", "hash"])
@pytest.mark.parametrize("value", [None, "", 0, "x", [], {}])
def test_an_entry_without_its_own_fields_is_found(name: str, value: object) -> None:
    entries = chain()
    entries[1][name] = value
    assert verify_chain(entries).bad_seq == 2
    del entries[1][name]
    assert verify_chain(entries).bad_seq == 2


def test_an_added_or_missing_field_is_found() -> None:
    added, missing = chain(), chain()
    added[1]["comment"] = "added"
    del missing[1]["unmapped"]
    assert verify_chain(added).bad_seq == verify_chain(missing).bad_seq == 2


def test_values_that_only_look_alike_have_other_hashes() -> None:
    values: list[object] = [
        1,
        "1",
        1.5,
        "",
        None,
        False,
        [],
        [None],
        {},
        {"": ""},
        "\u00e4",
        "a\u0308",
    ]
    assert len({entry_hash({"value": value}) for value in values}) == len(values)


def test_the_hash_is_of_sorted_compact_ascii_json() -> None:
    # Computed apart: printf '{"a":"\\u00e4","b":1}' | sha256sum
    expected = "78892fb919682f85e08161f2cd8e0e904520a093cd75421077a1c865e59e90c6"
    assert entry_hash({"b": 1, "a": "\u00e4", "hash": "not part of it"}) == expected


@given(st.permutations(range(LENGTH)))
def test_only_one_order_is_intact(order: list[int]) -> None:
    entries = chain()
    assert verify_chain([entries[i] for i in order]).intact == (order == sorted(order))
