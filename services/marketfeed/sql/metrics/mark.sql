-- Let be compared with the ledger again: windows just written that had been compared, and those that cannot be written.
WITH again AS (
    SELECT touched.symbol, touched.window_start
    FROM metrics_touched AS touched
    JOIN metrics_checked AS checked USING (symbol)
    WHERE checked.exchange = %(exchange)s AND checked.channel = %(channel)s AND checked.window_length = %(length)s
      AND touched.window_start < checked.through
    UNION
    SELECT symbol COLLATE "C", window_start
    FROM unnest(%(lost_symbols)s::text[], %(lost_starts)s::timestamptz[]) AS lost (symbol, window_start)
), minutes AS (
    SELECT DISTINCT symbol, minute
    FROM again,
         generate_series(date_trunc('minute', window_start), window_start + %(length)s - interval '1 millisecond',
                         interval '1 minute') AS minute
)
INSERT INTO late_minutes (exchange, symbol, channel, minute)
SELECT %(exchange)s, symbol, %(channel)s, minute FROM minutes ORDER BY symbol, minute
ON CONFLICT (exchange, symbol, channel, minute) DO UPDATE SET marked_at = now();
