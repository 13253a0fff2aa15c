"""What may be asked of the history, and what is answered to anything else."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_service.history.query import HistoryQuery, Sort, order_of, parse_query, statement_of
from backup_service.history.table import csv_lines
from shared.errors import UsageError


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"state": ["done"]}, "state: Input should be 'requested', 'running'"),
        ({"key_state": ["viewed", "lost"]}, "key_state: Input should be 'waiting'"),
        ({"sort": ["reason"]}, "sort: Input should be 'requested_at'"),
        ({"order": ["down"]}, "order: Input should be 'asc' or 'desc'"),
        ({"limit": ["0"]}, "limit: Input should be greater than or equal to 1"),
        ({"limit": ["1001"]}, "limit: Input should be less than or equal to 1000"),
        ({"offset_from": ["-1"]}, "offset_from"),
        ({"offset_to": ["9223372036854775808"]}, "offset_to"),
        ({"requested_from": ["2026-11-24T13:00:00"]}, "requested_from: Input should have timezone"),
        ({"requested_to": ["yesterday"]}, "requested_to"),
        ({"text": ["a\x00b"]}, "text"),
        ({"colour": ["red"]}, "colour: Extra inputs are not permitted"),
        ({"sort": ["state", "offset"]}, "sort is given more than once"),
        ({"cursor": ["!"]}, "is not a cursor of this list"),
        ({"cursor": ["W10"]}, "is not a cursor of this list"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_named(asked: dict[str, list[str]], told: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_query(asked)
    assert told in refused.value.message
    assert not any("\x00" in text for text in refused.value.message)


KEYS: dict[Sort, st.SearchStrategy[object]] = {
    Sort.REQUESTED_AT: st.datetimes().map(lambda time: f"{time.isoformat(sep=' ')}+00:00"),
    Sort.PROVEN_AT: st.just("-infinity"),
    Sort.STATE: st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=50),
    Sort.SIZE: st.integers(-1, (1 << 63) - 1),
    Sort.DURATION: st.floats(-1, 1e9),
}


@given(st.data(), st.sampled_from(list(KEYS)), st.booleans(), st.integers(0, (1 << 63) - 1))
def test_a_cursor_comes_back_as_the_place_that_it_was_made_of(
    data: st.DataObject, sort: Sort, descending: bool, position: int
) -> None:
    order = order_of(HistoryQuery(sort=sort, order="desc" if descending else "asc"))
    key = data.draw(KEYS[sort])
    cursor = order.cursor(key, position)
    found, behind = order.read(cursor)
    assert behind == position
    assert str(found) == str(key)
    assert HistoryQuery(sort=sort, order="desc" if descending else "asc", cursor=cursor)


@given(st.sampled_from(list(Sort)), st.sampled_from(list(Sort)), st.booleans())
def test_a_cursor_of_another_order_is_refused(first: Sort, other: Sort, turned: bool) -> None:
    cursor = order_of(HistoryQuery(sort=first)).cursor("-infinity", 7)
    if first is other and not turned:
        return
    asked = {"sort": [other.value], "cursor": [cursor], "order": ["asc" if turned else "desc"]}
    with pytest.raises(UsageError, match="another order"):
        parse_query(asked)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_no_cursor_of_a_stranger_reaches_the_database(cursor: str) -> None:
    for sort in Sort:
        try:
            query = parse_query({"sort": [sort.value], "cursor": [cursor]})
        except UsageError:
            continue
        # What is taken has a key of the order's own type.
        assert statement_of(query)[1]["position"] >= 0


@given(st.lists(st.sampled_from(["=", "+", "-", "@", "\t", "\r", "a", '"', ",", "\n"])))
def test_no_text_becomes_a_formula(characters: list[str]) -> None:
    reason = "".join(characters)
    whole = "".join(csv_lines([[{"reason": reason}]]))
    (line,) = csv.DictReader(io.StringIO(whole, newline=""))
    assert line["reason"][:1] not in ("=", "+", "-", "@", "\t", "\r", "\n")
    assert line["reason"].removeprefix("'") == reason
