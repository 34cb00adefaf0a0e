"""What the streaming job is compared with: DuckDB, which makes the same sums of the same records, from a file.

Job: `values`, a file with a record a line. Answer: `records`, `seconds`, `cpu_s`. It keeps no state, has no flags and
writes nothing: what one process on two threads can do with these bytes.
"""

from __future__ import annotations

import time

import duckdb

from benchmarks.children import job, reply

_READ = """
CREATE TEMP VIEW records AS SELECT * FROM read_json('{values}', format = 'newline_delimited', columns = {{
    channel: 'VARCHAR', exchange: 'VARCHAR', symbol: 'VARCHAR', trade_id: 'BIGINT', update_id: 'BIGINT',
    price: 'DECIMAL(18, 8)', quantity: 'DECIMAL(19, 8)', side: 'VARCHAR', bid_price: 'DECIMAL(18, 8)',
    ask_price: 'DECIMAL(18, 8)', event_time: 'BIGINT'
}})
"""
_TRADES = """
SELECT exchange, symbol, event_time // 60000000, count(*), min(trade_id), max(trade_id),
       arg_min(price, trade_id), max(price), min(price), arg_max(price, trade_id), sum(quantity),
       sum(price::DECIMAL(19, 8) * quantity), sum(quantity) FILTER (side = 'buy'), sum(price),
       sum(price::DECIMAL(19, 8) * price::DECIMAL(19, 8))
FROM (SELECT DISTINCT ON (exchange, symbol, trade_id) * FROM records WHERE channel = 'trade') GROUP BY ALL
"""
_QUOTES = """
SELECT exchange, symbol, event_time // 30000000, count(*), min(update_id), max(update_id),
       sum(spread), min(spread), max(spread), sum(bps), min(bps), max(bps)
FROM (
    SELECT DISTINCT ON (exchange, symbol, update_id) exchange, symbol, update_id, event_time,
           ask_price - bid_price AS spread,
           ((ask_price - bid_price)::DECIMAL(28, 8) * 100000000)::HUGEINT * 2000000000000
           // ((ask_price + bid_price)::DECIMAL(28, 8) * 100000000)::HUGEINT AS bps
    FROM records WHERE channel = 'bookTicker'
) GROUP BY ALL
"""


def main() -> None:
    """Answer with what both aggregations took."""
    values = job()["values"]
    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    connection.execute(_READ.format(values=values))
    started, cpu = time.monotonic(), time.process_time()
    for statement in (_TRADES, _QUOTES):
        connection.execute(statement).fetchall()
    took, cpu_s = time.monotonic() - started, time.process_time() - cpu
    counted = connection.execute("SELECT count(*) FROM records").fetchone()
    reply(records=counted[0] if counted else 0, seconds=took, cpu_s=cpu_s)


if __name__ == "__main__":
    main()
