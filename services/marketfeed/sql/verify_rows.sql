-- What the tables hold of each stream and minute, counted row by row.
WITH held AS (
    SELECT exchange, symbol, channel, trade_id AS id, event_time, source FROM trades
    UNION ALL
    SELECT exchange, symbol, 'bookTicker', update_id, event_time, source FROM book_ticker
)
SELECT exchange, symbol, channel, (extract(epoch FROM date_trunc('minute', event_time)) * 1000000)::bigint,
       count(*), count(*) FILTER (WHERE source = 'backfill'), min(id), max(id)
FROM held
WHERE (%(since)s::timestamptz IS NULL OR event_time >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR event_time < %(until)s)
  AND (%(symbols)s::text[] IS NULL OR symbol = ANY (%(symbols)s))
  AND (%(channels)s::text[] IS NULL OR channel = ANY (%(channels)s))
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4;
