"""Bodies of instance events: what the store could not hold is refused where it is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import MessageUnreadable
from shared.instance.events import CertificateCreated, SettingSet, decode, encode
from shared.instance.fold import LoggedEvent
from tests.plugins.hypothesis_profile import scaled
from tests.strategies import histories

NIL = "00000000-0000-0000-0000-000000000000"


def text_paths(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(body, str):
        return [path]
    if isinstance(body, dict | list):
        pairs = body.items() if isinstance(body, dict) else enumerate(body)
        return [found for name, inner in pairs for found in text_paths(inner, (*path, name))]
    return []


def with_nul(body: Any, path: tuple[Any, ...]) -> Any:
    if not path:
        return str(body) + "\x00"
    copy = dict(body) if isinstance(body, dict) else list(body)
    copy[path[0]] = with_nul(body[path[0]], path[1:])
    return copy


@settings(max_examples=scaled(40))
@given(histories(), st.integers(0, 2**16))
def test_no_text_of_any_event_takes_a_nul(history: list[LoggedEvent], choice: int) -> None:
    for logged in history:
        body = json.loads(encode(logged.event))
        paths = text_paths(body)
        if not paths:
            continue
        bad = with_nul(body, paths[choice % len(paths)])
        with pytest.raises(MessageUnreadable):
            decode(logged.type, json.dumps(bad).encode())


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", '{"a":[1,NaN]}'])
def test_a_setting_takes_no_number_that_json_has_not(value: str) -> None:
    with pytest.raises(MessageUnreadable):
        decode(SettingSet.TYPE, b'{"name":"x","value":%s}' % value.encode())


def certificate(not_after: str) -> CertificateCreated:
    body = {
        "id": NIL, "vault_id": NIL, "name": "x", "der": "", "subject": "", "issuer": "",
        "serial": "1", "not_before": "0001-01-01T00:00:00Z", "not_after": not_after,
    }  # fmt: skip
    event = decode(CertificateCreated.TYPE, json.dumps(body).encode())
    assert isinstance(event, CertificateCreated)
    return event


@pytest.mark.parametrize(
    "not_after",
    ["2026-01-01T00:00:00", "2026-01-01", "9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"],
)
def test_a_time_has_a_zone_and_a_year(not_after: str) -> None:
    with pytest.raises(MessageUnreadable):
        certificate(not_after)


def test_a_time_is_the_same_in_every_zone() -> None:
    assert certificate("2026-01-01T05:45:00+05:45") == certificate("2026-01-01T00:00:00Z")
    assert certificate("9999-12-31T23:59:59Z").not_after.year == 9999
