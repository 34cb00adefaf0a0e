-- The streams to compare, each with its newest minute in the ledger. Symbols are found by jumping from one to the next
-- in the ledger's primary key, as in proof_ledger.sql; so is one of which the stream brought no window at all. All of a
-- channel are compared from its first window on.
WITH RECURSIVE symbols AS (
    (SELECT symbol FROM ledger WHERE exchange = %(exchange)s ORDER BY symbol LIMIT 1)
    UNION ALL
    SELECT following.symbol
    FROM symbols, LATERAL (
        SELECT symbol FROM ledger
        WHERE exchange = %(exchange)s AND ledger.symbol > symbols.symbol ORDER BY symbol LIMIT 1
    ) AS following
), first AS (
    SELECT min(since) AS since FROM metrics_checked
    WHERE exchange = %(exchange)s AND channel = %(channel)s AND window_length = %(length)s
), streams AS (
    SELECT symbols.symbol, newest.minute
    FROM symbols, LATERAL (
        SELECT max(minute) AS minute FROM ledger
        WHERE exchange = %(exchange)s AND ledger.symbol = symbols.symbol AND channel = %(channel)s
    ) AS newest
    WHERE newest.minute IS NOT NULL
), begun AS (
    INSERT INTO metrics_checked AS held (exchange, symbol, channel, window_length, since, through)
    SELECT %(exchange)s, symbol, %(channel)s, %(length)s, first.since, first.since
    FROM streams, first
    WHERE first.since IS NOT NULL
      -- Looked at first, because a conflict locks its row even where nothing changes.
      AND NOT EXISTS (
          SELECT FROM metrics_checked AS known
          WHERE known.exchange = %(exchange)s AND known.channel = %(channel)s AND known.symbol = streams.symbol
            AND known.window_length = %(length)s AND known.since <= first.since
      )
    ORDER BY symbol
    ON CONFLICT (exchange, channel, symbol, window_length)
    DO UPDATE SET since = excluded.since, through = excluded.since
    WHERE excluded.since < held.since
    RETURNING symbol, since, through
), checked AS (
    SELECT * FROM begun
    UNION ALL
    SELECT symbol, since, through FROM metrics_checked
    WHERE exchange = %(exchange)s AND channel = %(channel)s AND window_length = %(length)s
      AND symbol NOT IN (SELECT symbol FROM begun)
)
INSERT INTO metrics_streams
SELECT checked.symbol, streams.minute, checked.since, checked.through,
       least(checked.through + %(horizon)s::interval, %(settled)s::timestamptz)
FROM checked LEFT JOIN streams USING (symbol);
