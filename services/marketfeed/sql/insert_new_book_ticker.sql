-- Store the waiting book tickers that are new; return what they add to the ledger. One update received twice differs in
-- event_time, so the first receipt within the window wins: among the waiting rows, then against the stored ones.
WITH waiting AS (
    SELECT DISTINCT ON (exchange, symbol, update_id) * FROM incoming_book_ticker
    ORDER BY exchange, symbol, update_id, event_time
), new AS (
    INSERT INTO book_ticker
    SELECT * FROM waiting
    -- A scalar subquery, not NOT EXISTS: it is always one look into the index per row, where a join may be planned
    -- as a scan of whole partitions, because nothing is known about a temporary table's rows.
    WHERE (
        SELECT true FROM book_ticker AS held
        WHERE held.update_id = waiting.update_id
          -- IS NOT DISTINCT FROM uses no index, so that the primary key alone is left to find the id. The index on
          -- (symbol, event_time) would scan the window, and the planner takes it whenever its statistics are older.
          AND held.symbol IS NOT DISTINCT FROM waiting.symbol
          AND held.exchange IS NOT DISTINCT FROM waiting.exchange
          AND held.event_time BETWEEN waiting.event_time - %(window)s AND waiting.event_time + %(window)s
          -- The same for all rows at once, in constants: partitions of other days are not even opened.
          AND held.event_time BETWEEN to_timestamp(%(from_s)s) AND to_timestamp(%(until_s)s)
        LIMIT 1
    ) IS NULL
    ON CONFLICT DO NOTHING
    RETURNING exchange, symbol, update_id, event_time, source
)
SELECT exchange, symbol, 'bookTicker', (extract(epoch FROM date_trunc('minute', event_time)) * 1000000)::bigint,
       count(*), count(*) FILTER (WHERE source = 'backfill'), min(update_id), max(update_id)
FROM new
GROUP BY 1, 2, 4;
