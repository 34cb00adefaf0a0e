"""What a dead letter says about itself."""

import struct

from marketfeed.quarantine import headers
from records import SourceRecord

NOW_US = 1_767_225_600_000_001


def made(
    source: SourceRecord | None = None, reason: str = "no price", error_type: str = "missing_field"
) -> dict[str, bytes]:
    """Return the headers of a dead letter."""
    return dict(headers(error_type, reason, now_us=NOW_US, component="spot/pg", source=source, group="g"))


def test_kafka_connects_headers() -> None:
    """Where it stood and why it failed, under Kafka Connect's names, all values text."""
    found = made(SourceRecord(b"{}", at=41))
    assert found["__connect.errors.topic"] == b"trades"
    assert found["__connect.errors.partition"] == b"2"
    assert found["__connect.errors.offset"] == b"41"
    assert found["__connect.errors.connector.name"] == b"spot/pg"
    assert found["__connect.errors.stage"] == b"VALUE_CONVERTER"
    assert found["__connect.errors.exception.class.name"] == b"marketfeed.errors.BadRecord"
    assert found["__connect.errors.exception.message"] == b"no price"


def test_spring_kafkas_headers() -> None:
    """The same under Spring's names, numbers as big-endian integers of 4 and 8 bytes."""
    found = made(SourceRecord(b"{}", at=41))
    assert found["kafka_dlt-original-topic"] == b"trades"
    assert struct.unpack(">i", found["kafka_dlt-original-partition"]) == (2,)
    assert struct.unpack(">q", found["kafka_dlt-original-offset"]) == (41,)
    assert struct.unpack(">q", found["kafka_dlt-original-timestamp"]) == (1_767_225_600_123,)
    assert found["kafka_dlt-original-timestamp-type"] == b"CreateTime"
    assert found["kafka_dlt-original-consumer-group"] == b"g"
    assert found["kafka_dlt-exception-fqcn"] == b"marketfeed.errors.BadRecord"
    assert found["kafka_dlt-exception-message"] == b"no price"


def test_our_headers() -> None:
    """The type of the error, a first attempt, and when it was first seen, exact to the microsecond."""
    found = made(SourceRecord(b"{}"))
    assert (found["error_type"], found["attempt"]) == (b"missing_field", b"1")
    assert found["first_seen"] == b"2026-01-01T00:00:00.000001+00:00"


def test_a_frame_has_no_origin() -> None:
    """A venue's frame never stood in a topic: no header claims that it did."""
    found = made(None)
    assert found["__connect.errors.exception.class.name"] == b"marketfeed.errors.BadFrame"
    assert not [name for name in found if "original" in name or name == "__connect.errors.topic"]


def test_what_the_sink_refused_says_so() -> None:
    """The stage tells a record that could not be read from one that could not be stored."""
    assert made(SourceRecord(b"{}"), error_type="refused_by_sink")["__connect.errors.stage"] == b"TASK_PUT"


def test_a_replayed_letter_counts_on() -> None:
    """A record that fails again keeps when it was first seen, and its attempts go up."""
    before = SourceRecord(b"{}", sent_headers=[("attempt", b"2"), ("first_seen", b"2025-12-31T00:00:00+00:00")])
    found = made(before)
    assert (found["attempt"], found["first_seen"]) == (b"3", b"2025-12-31T00:00:00+00:00")


def test_foreign_headers_are_no_obstacle() -> None:
    """Whatever somebody else wrote under our names, a dead letter can be made of it."""
    before = SourceRecord(b"{}", sent_headers=[("attempt", b"many \xff"), ("first_seen", None), ("x", "y")])
    assert made(before)["attempt"] == b"1"


def test_the_reason_is_bounded() -> None:
    """An error that quotes a megabyte of input does not make a dead letter of two."""
    assert len(made(SourceRecord(b"{}"), reason="x" * 1_000_000)["kafka_dlt-exception-message"]) == 500


def test_a_reason_that_is_no_unicode() -> None:
    """A lone surrogate in an error's text becomes a question mark instead of an exception."""
    assert made(SourceRecord(b"{}"), reason="\ud800")["kafka_dlt-exception-message"] == b"?"
