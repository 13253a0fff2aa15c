"""CloudEvents in Kafka's binary mode, both ways and strictly."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import MessageUnreadable
from shared.kafka import Record
from shared.messages import CloudEvent

ID = UUID("7f0c1a52-6d0f-4b0e-9f4a-0a3f4f1f6a11")
TIME = datetime(2026, 11, 1, 12, 30, 15, 123456, tzinfo=UTC)
EVENT = CloudEvent(
    id=ID,
    type="com.secryn.backup.created.v1",
    source="secryn/backup",
    subject="backup-1",
    time=TIME,
    data=b'{"a":1}',
    extensions={"correlationid": "c-1"},
)

Headers = list[tuple[str, bytes]]

# Longer than every standard name.
names = st.text("abcxyz0189", min_size=12, max_size=20)
# Control characters are refused, and surrogates are no text.
characters = st.characters(exclude_categories=["Cc", "Cs"])
texts = st.text(characters, max_size=30)
events = st.builds(
    CloudEvent,
    type=st.text(characters, min_size=1, max_size=30),
    source=st.text(characters, min_size=1, max_size=30),
    data=st.binary(max_size=200),
    subject=texts,
    id=st.uuids(),
    time=st.datetimes(
        timezones=st.sampled_from(
            [UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12, minutes=-30))]
        ),
        min_value=datetime(1, 1, 3),
        max_value=datetime(9999, 12, 29),
    ),
    extensions=st.dictionaries(names, texts, max_size=4),
)


def record(headers: Headers, value: bytes | None = b"{}") -> Record:
    return Record("topic", 0, 7, 0, None, value, tuple(headers))


def headers_of(event: CloudEvent) -> Headers:
    return list(event.to_kafka().headers)


def without(name: str) -> Headers:
    return [header for header in headers_of(EVENT) if header[0] != name]


def with_header(name: str, value: bytes) -> Headers:
    return [*without(name), (name, value)]


def test_an_event_is_headers_and_a_body() -> None:
    message = EVENT.to_kafka(b"key")
    assert message.key == b"key"
    assert message.value == b'{"a":1}'
    assert dict(message.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": str(ID).encode(),
        "ce_type": b"com.secryn.backup.created.v1",
        "ce_source": b"secryn/backup",
        "ce_time": b"2026-11-01T12:30:15.123456Z",
        "ce_subject": b"backup-1",
        "ce_correlationid": b"c-1",
        "content-type": b"application/json",
    }


@given(events)
def test_what_was_sent_is_read(event: CloudEvent) -> None:
    message = event.to_kafka()
    assert CloudEvent.from_kafka(record(list(message.headers), message.value)) == event


def test_an_event_of_somebody_else_is_read() -> None:
    read = CloudEvent.from_kafka(
        record(
            [
                ("content-type", b"application/json"),
                ("trace", b"\xff\xfe"),
                ("ce_time", b"2026-11-01T13:30:15+01:00"),
                ("ce_specversion", b"1.0"),
                ("ce_source", b"/x"),
                ("ce_type", b"t"),
                ("ce_id", str(ID).upper().encode()),
                ("ce_datacontenttype", b"application/json"),
            ]
        )
    )
    assert (read.id, read.type, read.source, read.subject) == (ID, "t", "/x", "")
    assert read.time == datetime(2026, 11, 1, 12, 30, 15, tzinfo=UTC)
    assert read.extensions == {"datacontenttype": "application/json"}


def test_extensions_are_added_to_a_copy() -> None:
    more = EVENT.with_extensions(issuer="platform")
    assert more.extensions == {"correlationid": "c-1", "issuer": "platform"}
    assert EVENT.extensions == {"correlationid": "c-1"}
    assert more.id == EVENT.id


def test_new_events_have_ids_of_their_own_and_the_time_of_now() -> None:
    one, two = CloudEvent("t", "s", b""), CloudEvent("t", "s", b"")
    assert one.id != two.id
    assert abs(datetime.now(UTC) - one.time) < timedelta(seconds=10)


class TestStrict:
    @pytest.mark.parametrize("name", ["id", "type", "source", "time", "specversion"])
    def test_a_missing_attribute_is_named(self, name: str) -> None:
        with pytest.raises(MessageUnreadable, match=f"no {name}"):
            CloudEvent.from_kafka(record(without(f"ce_{name}")))

    def test_a_message_without_headers_is_refused(self) -> None:
        with pytest.raises(MessageUnreadable):
            CloudEvent.from_kafka(record([]))

    def test_a_message_without_a_body_is_refused(self) -> None:
        with pytest.raises(MessageUnreadable, match="body"):
            CloudEvent.from_kafka(record(headers_of(EVENT), None))

    @pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_correlationid"])
    def test_an_attribute_that_is_there_twice_is_refused(self, name: str) -> None:
        twice = [*headers_of(EVENT), (name, b"x")]
        with pytest.raises(MessageUnreadable, match="twice"):
            CloudEvent.from_kafka(record(twice))

    @pytest.mark.parametrize(
        "name", ["ce_", "ce_UPPER", "ce_a b", "ce_a-b", "ce_\u00e4", "ce_a\n", "ce_" + "a" * 21]
    )
    def test_a_malformed_name_is_refused(self, name: str) -> None:
        with pytest.raises(MessageUnreadable, match="malformed"):
            CloudEvent.from_kafka(record([*headers_of(EVENT), (name, b"x")]))

    @pytest.mark.parametrize("name", ["ce_type", "ce_correlationid"])
    def test_text_that_is_not_utf8_is_refused(self, name: str) -> None:
        with pytest.raises(MessageUnreadable, match="UTF-8"):
            CloudEvent.from_kafka(record(with_header(name, b"\xff")))

    @pytest.mark.parametrize("character", ["\0", "\n", "\x1f", "\x7f", "\x85"])
    def test_control_characters_are_refused(self, character: str) -> None:
        with pytest.raises(MessageUnreadable, match="control"):
            CloudEvent.from_kafka(record(with_header("ce_subject", f"a{character}b".encode())))

    @pytest.mark.parametrize(("length", "fits"), [(2048, True), (2049, False)])
    def test_a_long_attribute_is_refused(self, length: int, *, fits: bool) -> None:
        headers = with_header("ce_correlationid", b"x" * length)
        if fits:
            assert len(CloudEvent.from_kafka(record(headers)).extensions["correlationid"]) == length
        else:
            with pytest.raises(MessageUnreadable, match="too long"):
                CloudEvent.from_kafka(record(headers))

    @pytest.mark.parametrize("version", [b"0.3", b"1.1", b"2.0", b"", b"1"])
    def test_another_version_is_refused(self, version: bytes) -> None:
        with pytest.raises(MessageUnreadable, match="version"):
            CloudEvent.from_kafka(record(with_header("ce_specversion", version)))

    @pytest.mark.parametrize("identity", [b"1", b"not-a-uuid", b"x" * 36])
    def test_an_id_that_is_no_uuid_is_refused(self, identity: bytes) -> None:
        with pytest.raises(MessageUnreadable, match="UUID"):
            CloudEvent.from_kafka(record(with_header("ce_id", identity)))

    @pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_source"])
    def test_an_empty_attribute_is_refused(self, name: str) -> None:
        with pytest.raises(MessageUnreadable, match=f"no {name[3:]}"):
            CloudEvent.from_kafka(record(with_header(name, b"")))

    @pytest.mark.parametrize(
        "time",
        [
            b"", b"now", b"2026-11-01", b"2026-11-01T12:30:15", b"2026-13-01T00:00:00Z",
            b"1760000000", b"2026-11-01T25:00:00Z",
            b"0001-01-01T00:00:00+05:00", b"9999-12-31T23:59:59-05:00",
        ],
    )  # fmt: skip
    def test_a_time_that_is_none_is_refused(self, time: bytes) -> None:
        with pytest.raises(MessageUnreadable, match="time"):
            CloudEvent.from_kafka(record(with_header("ce_time", time)))

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([name for name, _ in headers_of(EVENT)]), st.binary(max_size=60)
            )
        )
    )
    def test_any_headers_are_read_or_refused_and_then_sent_again(self, headers: Headers) -> None:
        kept = [header for header in headers_of(EVENT) if header[0] not in dict(headers)]
        try:
            event = CloudEvent.from_kafka(record(kept + headers))
        except MessageUnreadable:
            return
        assert CloudEvent.from_kafka(record(headers_of(event), event.data)) == event
