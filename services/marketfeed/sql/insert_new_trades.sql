-- Store the waiting trades that are new; return what they add to the ledger.
WITH new AS (
    INSERT INTO trades SELECT * FROM incoming_trades ON CONFLICT DO NOTHING
    RETURNING exchange, symbol, channel, trade_id, event_time, source
)
SELECT exchange, symbol, channel, (extract(epoch FROM date_trunc('minute', event_time)) * 1000000)::bigint,
       count(*), count(*) FILTER (WHERE source = 'backfill'), min(trade_id), max(trade_id)
FROM new
GROUP BY 1, 2, 3, 4;
