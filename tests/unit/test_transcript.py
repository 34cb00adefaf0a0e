"""Copying frames whose shape is known: the copy is what parsing and encoding would have given, or there is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed import codec, transcript
from marketfeed.events import Record
from marketfeed.exchanges import venue
from marketfeed.exchanges.base import Control
from marketfeed.transcript import Transcriber

BINANCE = venue("binance")
RECEIVED_US = 1_760_000_000_000_000

number = st.from_regex(r"[0-9]{1,6}\.[0-9]{1,8}", fullmatch=True)
ids = st.integers(min_value=0, max_value=2**62)
times_ms = st.integers(min_value=1_400_000_000_000, max_value=1_900_000_000_000)


def frame(symbol: str, channel: str, data: dict[str, object]) -> bytes:
    """Return a combined frame as the venue writes it."""
    payload = {"stream": f"{symbol.lower()}@{channel}", "data": data}
    return json.dumps(payload, separators=(",", ":")).encode()


@st.composite
def frames(draw: st.DrawFn, symbol: str = "BTCUSDT") -> bytes:
    """Draw a frame of any channel."""
    channel = draw(st.sampled_from(["trade", "aggTrade", "bookTicker"]))
    if channel == "bookTicker":
        return frame(symbol, channel, {"u": draw(ids), "s": symbol} | {key: draw(number) for key in "bBaA"})
    numbers = {"t": draw(ids)} if channel == "trade" else {"a": draw(ids), "f": draw(ids), "l": draw(ids)}
    prices = {"p": draw(number), "q": draw(number), "T": draw(times_ms), "m": draw(st.booleans()), "M": True}
    return frame(symbol, channel, {"e": channel, "E": draw(times_ms), "s": symbol} | numbers | prices)


def record_of(message: bytes, at_us: int = RECEIVED_US) -> Record:
    """Return the record of a frame that holds one."""
    (event,) = BINANCE.parser()(message, at_us)
    assert not isinstance(event, Control)
    return event


def parsed(message: bytes, at_us: int) -> tuple[str, bytes]:
    """Return what the long way gives."""
    record = record_of(message, at_us)
    return codec.stream_of(record), codec.encode(record)


def taught(*messages: bytes) -> Transcriber:
    """Return a transcriber that has seen these frames parsed."""
    transcriber = Transcriber(BINANCE.fields)
    for message in messages:
        stream, value = parsed(message, RECEIVED_US)
        transcriber.learn(message, stream, record_of(message), value)
    return transcriber


@given(st.lists(frames(), min_size=1, max_size=30))
def test_a_copy_equals_the_long_way(messages: list[bytes]) -> None:
    """Whatever was learnt before, a frame is copied to the very bytes that parsing and encoding give, or not at all."""
    transcriber = taught(*messages[::2])
    for at, message in enumerate(messages, RECEIVED_US):
        copied = transcriber.transcribe(message, at)
        assert copied in (None, parsed(message, at))


@given(frames())
def test_the_shape_of_a_frame_is_learnt_from_one(message: bytes) -> None:
    """After one frame was parsed, frames of its shape are copied: other digits, another time of receipt."""
    transcriber = taught(message)
    other = message.translate(bytes.maketrans(b"23456", b"34567"))
    assert transcriber.transcribe(message, RECEIVED_US + 7) == parsed(message, RECEIVED_US + 7)
    assert transcriber.transcribe(other, RECEIVED_US) is not None


TRADE = {"e": "trade", "E": 1672515782137, "s": "BTCUSDT", "t": 12345, "p": "39432.48", "q": "0.10"}
TRADE |= {"T": 1672515782136, "m": True, "M": True}


@pytest.mark.parametrize(
    "other",
    [
        frame("BTCUSDT", "trade", TRADE | {"m": False}),
        frame("BTCUSDT", "trade", TRADE | {"p": "39432.4x"}),
        frame("BTCUSDT", "trade", TRADE | {"p": "-9432.48"}),
        frame("BTCUSDT", "trade", TRADE | {"t": 123456}),
        frame("ETHUSDT", "trade", TRADE),
        frame("BTCUSDT", "trade", TRADE)[:-1],
        b"",
    ],
)
def test_another_shape_is_not_copied(other: bytes) -> None:
    """Another side, symbol, length or sign, a letter among the digits, a frame cut short: none passes for the known."""
    assert taught(frame("BTCUSDT", "trade", TRADE)).transcribe(other, RECEIVED_US) is None


@pytest.mark.parametrize(
    "message",
    [
        frame("1INCHUSDT", "trade", TRADE | {"s": "1INCHUSDT"}),
        frame("BTCUSDT", "trade", TRADE).replace(b"39432", b"\\u0033943"),
        frame("BTCUSDT", "trade", {"x": {"t": 12345}} | TRADE),
        frame("BTCUSDT", "trade", TRADE | {"note": "x" * 500}),
    ],
)
def test_what_digits_alone_do_not_tell_is_never_learnt(message: bytes) -> None:
    """A symbol with digits, an escape, a key that stands twice and an outsized frame always go the long way."""
    assert taught(message).transcribe(message, RECEIVED_US) is None


def test_a_percent_sign_is_text() -> None:
    """What Python would take for a placeholder is copied as it is."""
    message = frame("A%DB", "trade", TRADE | {"s": "A%DB"})
    assert taught(message).transcribe(message, RECEIVED_US) == parsed(message, RECEIVED_US)


def test_a_venue_without_fields_is_never_copied() -> None:
    """Where a venue makes no promise about its frames, nothing is learnt."""
    message = frame("BTCUSDT", "trade", TRADE)
    stream, value = parsed(message, RECEIVED_US)
    transcriber = Transcriber({})
    transcriber.learn(message, stream, record_of(message), value)
    assert transcriber.transcribe(message, RECEIVED_US) is None


def test_many_shapes_are_forgotten_and_learnt_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ever new shapes no more than the bound is remembered, and what is remembered is copied right."""
    monkeypatch.setattr(transcript, "_KNOWN_SHAPES", 2)
    messages = [frame("BTCUSDT", "trade", TRADE | {"p": f"{'1' * digits}.5"}) for digits in range(1, 20)]
    transcriber = taught(*messages)
    copied = [transcriber.transcribe(message, RECEIVED_US) for message in messages]
    assert 1 <= sum(copy is not None for copy in copied) <= 2
    assert all(copy in (None, parsed(message, RECEIVED_US)) for copy, message in zip(copied, messages, strict=True))
