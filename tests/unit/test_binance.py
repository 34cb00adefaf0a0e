"""Binance's parser keeps nothing from frame to frame; the rest of the venue is held by tests/contracts."""

from __future__ import annotations

import pytest

from marketfeed.errors import BadFrame
from marketfeed.events import BookTicker, Channel, Trade
from marketfeed.exchanges import binance

RECEIVED_US = 1_760_000_000_000_000


def trade(*, price: str = "39432.48000000", stream: str = "btcusdt@trade", trade_id: int = 12345) -> bytes:
    """Return a combined frame; `price` stands in it as it is written."""
    return (
        f'{{"stream":"{stream}","data":{{"e":"trade","E":1672515782137,"s":"BTCUSDT","t":{trade_id},'
        f'"p":"{price}","q":"0.10000000","T":1672515782136,"m":true,"M":true}}}}'
    ).encode()


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("10.5", "1e.5"),
        ("10.5", "1.0.5"),
        ("10.5", ".10.5"),
        ("0.5", ".05"),
        ("5.0", "50."),
        ("15", "-5"),
        ("1", ""),
        ("1", "\u0663"),
        ("1\\u0030", "1\\u0041"),
    ],
)
def test_a_good_number_vouches_for_no_bad_one(good: str, bad: str) -> None:
    """A price that is no number is refused also right after one on the same stream that looks much like it."""
    parse = binance.VENUE.parser()
    for _ in range(2):
        (record,) = parse(trade(price=good), RECEIVED_US)
        assert isinstance(record, Trade)
    with pytest.raises(BadFrame) as caught:
        parse(trade(price=bad), RECEIVED_US)
    assert caught.value.error_type == "not_a_number"


def test_each_frame_has_its_own_digits() -> None:
    """Frames that differ in digits alone become records with exactly their own numbers, ids and times."""
    parse = binance.VENUE.parser()
    records = [parse(trade(price=f"3943{n}.4800000{n}", trade_id=10 + n), RECEIVED_US + n)[0] for n in range(10)]
    found = [(r.price, r.trade_id, r.ingestion_time) for r in records if isinstance(r, Trade)]
    assert found == [(f"3943{n}.4800000{n}", 10 + n, RECEIVED_US + n) for n in range(10)]


def test_symbols_may_differ_in_digits_alone() -> None:
    """Two symbols whose names differ in digits alone keep their names and their channels."""
    parse = binance.VENUE.parser()
    frames = [
        b'{"stream":"%bx@bookTicker","data":{"u":7,"s":"%bX","b":"1.0","B":"2.0","a":"3.0","A":"4.0"}}' % (n, n)
        for n in (b"1000", b"2000", b"1000")
    ]
    records = [parse(frame, RECEIVED_US)[0] for frame in frames]
    assert [r.symbol for r in records if isinstance(r, BookTicker)] == ["1000X", "2000X", "1000X"]
    assert {r.channel for r in records if isinstance(r, BookTicker)} == {Channel.BOOK_TICKER}
