"""Records to bytes and back: nothing is rounded, and what cannot be taken is named."""

import json
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed import codec
from marketfeed.errors import BadRecord
from marketfeed.events import AggTrade, BookTicker, Record, Trade

AT = 1_610_064_000_278_000
TRADE = Trade("binance", "BTCUSDT", 553287559, "39432.48000000", "0.00026300", "sell", AT, AT + 1)
AGG_TRADE = AggTrade("binance", "XRPETH", 13519807, "0.00141342", "23.00000000", "buy", 5, 7, AT, AT + 1, "backfill")
BOOK_TICKER = BookTicker("binance", "BTCUSDT", 7000000000, "1.10", "2", "1.20", "3", AT, AT)


@pytest.mark.parametrize("record", [TRADE, AGG_TRADE, BOOK_TICKER])
def test_a_record_survives_the_wire(record: Record) -> None:
    """Encoding and decoding gives an equal record of the same kind."""
    assert codec.decode(codec.encode(record)) == record


def test_the_wire_form_is_flat_json_with_the_channel() -> None:
    """Outside tools read one flat JSON object; its names and digits are the documented ones."""
    assert json.loads(codec.encode(TRADE)) == {
        "channel": "trade",
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "trade_id": 553287559,
        "price": "39432.48000000",
        "quantity": "0.00026300",
        "side": "sell",
        "event_time": AT,
        "ingestion_time": AT + 1,
        "source": "stream",
        "v": 1,
    }


@given(st.decimals(min_value=0, allow_nan=False, allow_infinity=False, places=8))
def test_digits_are_never_rounded(number: Decimal) -> None:
    """Any plain decimal keeps each of its digits, trailing zeros included."""
    price = f"{number:f}"
    record = Trade("binance", "BTCUSDT", 1, price, price, "buy", AT, AT)
    assert codec.decode(codec.encode(record)) == record


def changed(**fields: object) -> bytes:
    """Return TRADE's wire form with fields set, or taken out where they are None."""
    wire = json.loads(codec.encode(TRADE)) | fields
    return json.dumps({name: value for name, value in wire.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("data", "error_type"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b'{"channel":"trade","symbol":"\xff"}', "not_json"),
        (b"[]", "wrong_type"),
        (changed(channel="candle"), "unknown_type"),
        (changed(channel=None), "missing_field"),
        (changed(price=None), "missing_field"),
        (changed(price=1.5), "wrong_type"),
        (changed(trade_id="7"), "wrong_type"),
        (changed(side="BUY"), "wrong_type"),
        (changed(price="NaN"), "not_a_number"),
        (changed(price="1e5"), "not_a_number"),
        (changed(price="-1"), "not_a_number"),
        (changed(price=""), "not_a_number"),
        (changed(quantity="1.2.3"), "not_a_number"),
        (changed(price="\u0663"), "not_a_number"),
        (changed(price="1\n"), "not_a_number"),
        (changed(price="1 2", quantity=""), "not_a_number"),
        (changed(price="1 2"), "not_a_number"),
        (changed(event_time=AT // 1000), "out_of_range"),
        (changed(event_time=AT * 1000), "out_of_range"),
        (changed(trade_id=2**63), "out_of_range"),
        (changed(trade_id=-1), "out_of_range"),
        (changed(ingestion_time=0), "out_of_range"),
        (changed(v=2), "out_of_range"),
    ],
)
def test_what_cannot_be_taken_is_named(data: bytes, error_type: str) -> None:
    """Each kind of bad record is refused with its word of the taxonomy, never with another exception."""
    with pytest.raises(BadRecord) as caught:
        codec.decode(data)
    assert caught.value.error_type == error_type


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """Whatever arrives, the decoder either gives a record or says BadRecord."""
    with suppress(BadRecord):
        codec.decode(data)
