"""Records as COPY's text. That the database reads it back unchanged is tested with the sinks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketfeed.sinks import Refused
from marketfeed.sinks.copy_text import escape, lines
from records import agg_trade, book_ticker, trade

STREAM = ("binance", "BTCUSDT")


def test_a_trade() -> None:
    """One row: columns in the table's order, digits as they came, times exact to the microsecond, no print ids."""
    assert lines((*STREAM, "trade"), [trade(5, after_us=1)]) == (
        "binance\tBTCUSDT\ttrade\t5\t39432.48000000\t0.00100\tbuy\t\\N\t\\N"
        "\t2026-01-01 00:00:00.000001+00\t2026-01-01 00:00:00.000007+00\tstream\n"
    )


def test_an_aggregate_trade() -> None:
    """The prints that it sums up stand in their columns."""
    assert lines((*STREAM, "aggTrade"), [agg_trade(5)]) == (
        "binance\tBTCUSDT\taggTrade\t5\t39432.4\t1\tsell\t10\t11"
        "\t2026-01-01 00:00:00.000000+00\t2026-01-01 00:00:00.000007+00\tstream\n"
    )


def test_a_book_ticker() -> None:
    """Its table has no channel: the row begins with exchange, symbol and update id."""
    assert lines((*STREAM, "bookTicker"), [book_ticker(5, after_us=1_000_000)]) == (
        "binance\tBTCUSDT\t5\t39432.40\t1.000\t39432.50\t0.5"
        "\t2026-01-01 00:00:01.000000+00\t2026-01-01 00:00:01.000000+00\tstream\n"
    )


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_no_name_can_end_its_column_or_row(name: str) -> None:
    """Whatever a venue calls a symbol, its text holds no bare tab, newline or end-of-data mark."""
    escaped = escape(name)
    assert not set("\t\n\r") & set(escaped)
    assert lines((name, name, "trade"), [trade(1)]).count("\t") == 11
    assert escaped != "\\N"
    assert escaped != "\\."


@pytest.mark.parametrize("name", ["BTC\0USDT", "BTC\ud800"])
def test_names_that_no_text_column_holds_are_refused(name: str) -> None:
    """A NUL and a lone surrogate are refused as bad rows before they reach the database."""
    with pytest.raises(Refused):
        escape(name)
