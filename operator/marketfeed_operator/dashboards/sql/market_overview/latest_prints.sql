-- The newest prints. Of each symbol a few are read backwards from the primary key, however many there are.
SELECT event_time, exchange, symbol, channel, trade_id, price, quantity, side, source
FROM unnest(ARRAY[$symbol]::text[]) AS wanted (name), LATERAL (
    SELECT *
    FROM trades
    WHERE symbol = wanted.name AND exchange = ANY (ARRAY[$exchange]::text[]) AND $__timeFilter(event_time)
    ORDER BY event_time DESC, trade_id DESC
    LIMIT 50
) AS newest
ORDER BY event_time DESC, trade_id DESC
LIMIT 50;
