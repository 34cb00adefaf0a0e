"""The ingestor as a process for tests: publishing to stdout, quick to try again, watched through its HTTP server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers import wait_until
from marketfeed import codec
from marketfeed.events import Record, Trade
from marketfeed.settings import HttpSettings, IngestorSettings
from pipeline import Service

SOON_S = 20.0


Start = Callable[..., Service]  # starts an ingestor; its arguments are changes of the settings


@contextmanager
def starter(folder: Path, websocket_url: str, streams_file: Path) -> Iterator[Start]:
    """Start ingestors of these streams until the block ends, which ends them too."""
    services: list[Service] = []

    def start(**changes: Any) -> Service:
        settings: dict[str, Any] = {
            "feed": "test",
            "shard": "test-0",
            "exchange": "binance",
            "websocket_url": websocket_url,
            "rest_urls": ("http://127.0.0.1:1",),
            "streams_file": str(streams_file),
            "topics": {"trade": "t", "aggTrade": "t", "bookTicker": "t"},
            "dead_letter_topic": "t.dlq",
            "publisher": "stdout",
            "backoff_first_s": 0.05,
            "backoff_max_s": 0.2,
            "http": HttpSettings(host="127.0.0.1", port=0),
        } | changes
        services.append(Service("ingest", ["ingest"], IngestorSettings(**settings).to_env(), folder))
        return services[-1]

    try:
        yield start
    finally:
        for service in services:
            service.__exit__(None, None, None)


def write_streams(path: Path, *streams: str) -> None:
    """Replace the streams file at once, as an editor or the operator does."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"streams": streams}))
    new.replace(path)


def trade(number: int, symbol: str = "BTCUSDT", **changes: Any) -> dict[str, Any]:
    """Return a combined frame with the print of this number."""
    data = {"e": "trade", "E": 1767225600001, "s": symbol, "t": number, "p": "39432.48000000", "q": "0.00026300"}
    data |= {"T": 1767225600000, "m": True, "M": True}
    return {"stream": f"{symbol.lower()}@trade", "data": data | changes}


def received(service: Service) -> list[Record]:
    """Return the records that came out so far."""
    return [codec.decode(line) for line in service.stdout.read_bytes().splitlines()]


def ids(service: Service) -> list[int]:
    """Return the ids of the prints that came out so far."""
    return [record.trade_id for record in received(service) if isinstance(record, Trade)]


def wait_ready(service: Service) -> None:
    """Wait until `/readyz` says yes."""
    wait_until(lambda: service.reason() is None, SOON_S, "the ingestor to be ready")


def wait_reason(service: Service, words: str) -> None:
    """Wait until the ingestor is not ready, for a reason with these words."""
    wait_until(lambda: words in (service.reason() or ""), SOON_S, f"the reason {words!r}")
