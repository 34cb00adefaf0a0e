-- Where the ids of neighbouring trades are not neighbours: the id before and after, and their times. The same id twice
-- means a trade that is stored under two times.
SELECT exchange, symbol, channel, id, event_time, next_id, next_time
FROM (
    SELECT exchange, symbol, channel, trade_id AS id, event_time,
           lead(trade_id) OVER stream AS next_id, lead(event_time) OVER stream AS next_time
    FROM trades
    WHERE (%(since)s::timestamptz IS NULL OR event_time >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR event_time < %(until)s)
      AND (%(symbols)s::text[] IS NULL OR symbol = ANY (%(symbols)s))
      AND (%(channels)s::text[] IS NULL OR channel = ANY (%(channels)s))
    WINDOW stream AS (PARTITION BY exchange, symbol, channel ORDER BY trade_id)
) AS neighbours
WHERE next_id <> id + 1
ORDER BY exchange, symbol, channel, id;
