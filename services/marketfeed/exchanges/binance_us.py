"""Binance.US: Binance's protocol under its own hosts.

Source: binance-us-api-docs. Its trades still carry order ids (`b`, `a`), which are not taken; request ids must be
unsigned integers, as ours always are; it pings every three minutes and announces no shutdown.
"""

from __future__ import annotations

from marketfeed.exchanges.binance import BinanceVenue

VENUE = BinanceVenue(
    name="binance_us", websocket_url="wss://stream.binance.us:9443", rest_urls=("https://api.binance.us",)
)
