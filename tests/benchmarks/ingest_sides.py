"""What the ingest path is compared with, each in a process of its own: receive only, produce only, the plain design.

Job: `side`, `frames` (how many), and for the sides that receive `url`, for those that produce `kafka`, `topics`.
Answer: `finished` (monotonic clock, s) and `cpu_s`; the side that has no feeder also says when it `started`.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import uvloop
from confluent_kafka import KafkaError, Message, Producer
from picows import WSFrame, WSListener, WSTransport, ws_connect
from websockets.asyncio.client import connect

from benchmarks.children import job, reply
from benchmarks.market import read_socket_bytes
from marketfeed import codec, logs
from marketfeed.events import AggTrade, BookTicker, Trade
from marketfeed.exchanges import venue
from marketfeed.kafka import producer_config
from marketfeed.settings import KafkaSettings, KeyStyle, ProducerSettings

_FLUSH_S = 60.0
_FULL_WAIT_S = 0.005


def receive_only(work: dict[str, Any]) -> None:
    """Count frames with picows and do nothing else."""

    class Count(WSListener):
        def __init__(self, done: asyncio.Future[None]) -> None:
            self.left = work["frames"]
            self.done = done

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 - picows' signature
            self.left -= 1
            if not self.left:
                self.done.set_result(None)

    async def run() -> None:
        done = asyncio.get_running_loop().create_future()
        transport, _ = await ws_connect(lambda: Count(done), work["url"])
        before = time.process_time()
        await done
        reply(finished=time.monotonic(), cpu_s=time.process_time() - before)
        transport.disconnect()

    uvloop.run(run())


def produce_only(work: dict[str, Any]) -> None:
    """Produce the records that the ingestor would make of these frames, encoded beforehand."""
    parse = venue("binance").parser()
    now_us = time.time_ns() // 1_000
    messages = [
        (work["topics"][record.channel], codec.encode(record), KeyStyle.SYMBOL.key(record.exchange, record.symbol))
        for frame in read_socket_bytes(Path(work["file"]), work["frames"])
        for record in parse(frame, now_us)
        if isinstance(record, Trade | AggTrade | BookTicker)
    ]
    producer = Producer(producer_config(KafkaSettings(bootstrap_servers=work["kafka"]), ProducerSettings()))
    producer.list_topics(timeout=10)  # connected and knowing the partitions before the clock starts
    produce = producer.produce
    started, before = time.monotonic(), time.process_time()
    for topic, value, key in messages:
        while True:
            try:
                produce(topic, value, key)
                break
            except BufferError:
                producer.poll(_FULL_WAIT_S)
    _flush(producer)
    reply(started=started, finished=time.monotonic(), cpu_s=time.process_time() - before)


def plain(work: dict[str, Any]) -> None:
    """Ingest as most scripts do: `websockets`, `json`, a dict, and a callback for each delivered record."""
    config = producer_config(KafkaSettings(bootstrap_servers=work["kafka"]), ProducerSettings())
    del config["delivery.report.only.error"]  # the plain design counts every delivery
    producer = Producer(config)
    producer.list_topics(timeout=10)
    delivered = 0

    def on_delivery(error: KafkaError | None, message: Message) -> None:  # noqa: ARG001 - the client's signature
        nonlocal delivered
        delivered += error is None

    async def run() -> None:
        left = work["frames"]
        async with connect(work["url"]) as websocket:
            before = time.process_time()
            async for message in websocket:
                record = _plain_record(json.loads(message), time.time_ns() // 1_000)
                topic, key, value = work["topics"][record["channel"]], record["symbol"], json.dumps(record).encode()
                while True:
                    try:
                        producer.produce(topic, value, key, on_delivery=on_delivery)
                        break
                    except BufferError:
                        producer.poll(_FULL_WAIT_S)
                producer.poll(0)
                left -= 1
                if not left:
                    break
            _flush(producer)
            reply(finished=time.monotonic(), cpu_s=time.process_time() - before, delivered=delivered)

    asyncio.run(run())


def _plain_record(frame: dict[str, Any], received_us: int) -> dict[str, Any]:
    """Build the same record as ours, by hand."""
    channel = frame["stream"].partition("@")[2]
    data = frame["data"]
    record = {"channel": channel, "exchange": "binance", "symbol": data["s"]}
    if channel == "bookTicker":
        record |= {
            "update_id": data["u"],
            "bid_price": data["b"],
            "bid_quantity": data["B"],
            "ask_price": data["a"],
            "ask_quantity": data["A"],
            "event_time": received_us,
        }
    else:
        record |= {
            "trade_id": data["t"] if channel == "trade" else data["a"],
            "price": data["p"],
            "quantity": data["q"],
            "side": "sell" if data["m"] else "buy",
            "event_time": data["T"] * 1_000,
        }
        if channel == "aggTrade":
            record |= {"first_trade_id": data["f"], "last_trade_id": data["l"]}
    return record | {"ingestion_time": received_us, "source": "stream", "v": 1}


def _flush(producer: Producer) -> None:
    left = producer.flush(_FLUSH_S)
    if left:
        raise TimeoutError(f"{left} records are not acknowledged after {_FLUSH_S:g} s")


SIDES = {"receive_only": receive_only, "produce_only": produce_only, "plain": plain}

if __name__ == "__main__":
    logs.configure("ERROR")  # what the clients say of a broker that comes and goes is no news here
    _work = job()
    SIDES[_work["side"]](_work)
