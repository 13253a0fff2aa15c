"""The fold against the model: whatever history comes, in whatever batches, the rows are the model's."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shared.instance.events import ANNOUNCED_EVENTS, EVENT_TYPES, decode, encode
from shared.instance.fold import LoggedEvent
from shared.instance.workingset import TABLES
from tests.memorystore import MemoryStore
from tests.model import KEYS, Model, differences
from tests.plugins.hypothesis_profile import DEFAULT_EXAMPLES
from tests.strategies import LOG, batches, cuts, histories, seeded


def modelled(history: list[LoggedEvent]) -> Model:
    model = Model(LOG)
    model.apply_all(history)
    return model


@given(histories(), cuts(), cuts())
def test_rows_are_those_of_the_model_however_the_log_is_cut(
    history: list[LoggedEvent], some: list[int], others: list[int]
) -> None:
    store, other, model = MemoryStore(), MemoryStore(), modelled(history)
    results = [store.apply(batch) for batch in batches(history, some)]
    assert differences(model.tables(), store.rows) == []
    assert sum(result.applied for result in results) == model.applied
    assert sum(result.rejected for result in results) == model.rejected
    assert sum((result.skipped for result in results), Counter()) == model.skipped
    for batch in batches(history, others):
        other.apply(batch)
    # Column by column, the prose of a rejection too, which the model does not know.
    assert other.rows == store.rows


@given(histories())
def test_an_event_is_the_same_after_its_way_over_the_log(history: list[LoggedEvent]) -> None:
    for logged in history:
        assert decode(logged.type, encode(logged.event)) == logged.event


def test_the_histories_meet_every_event_type_both_ways() -> None:
    """What the properties above are worth: every type is applied somewhere and refused somewhere."""
    applied: Counter[str] = Counter()
    refused: Counter[tuple[str, str]] = Counter()
    skipped: Counter[str] = Counter()

    for history in map(seeded, range(DEFAULT_EXAMPLES)):
        model = modelled(history)
        rejections = model.tables()["rejections"]
        for logged in history:
            if (logged.offset,) in rejections:
                refused[logged.type, rejections[logged.offset,]["code"]] += 1
            elif logged.epoch == 1:
                applied[logged.type] += 1
        skipped.update(model.skipped)

    writers = {name for name, cls in EVENT_TYPES.items() if cls not in ANNOUNCED_EVENTS}
    assert applied.keys() == writers
    assert {name for name, _ in refused} == writers
    assert {code for _, code in refused} == {
        "ambiguous", "deleted", "exists", "incomplete", "missing", "name_taken", "not_deleted",
        "retired", "revoked", "wrong_scope", "wrong_version",
    }  # fmt: skip
    assert skipped["epoch"] > 0


def test_the_model_has_the_tables_and_keys_of_the_store() -> None:
    assert {name: table.key for name, table in TABLES.items()} == KEYS


@given(st.data())
def test_one_changed_cell_is_a_difference(data: st.DataObject) -> None:
    tables = modelled(data.draw(histories())).tables()
    cells = [
        (name, key, column)
        for name, rows in tables.items()
        for key, row in rows.items()
        for column in row
    ]
    if not cells:
        return
    name, key, column = data.draw(st.sampled_from(cells))
    changed = {table: {k: dict(row) for k, row in rows.items()} for table, rows in tables.items()}
    changed[name][key][column] = "something else"
    assert len(differences(tables, changed)) == 1
