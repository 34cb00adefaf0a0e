-- Streams have windows from here on. An earlier one than was known sends the comparison back to it.
INSERT INTO metrics_checked AS held (exchange, symbol, channel, window_length, since, through)
SELECT %(exchange)s, symbol, %(channel)s, %(length)s, since, since
FROM (
    SELECT symbol, date_bin(%(group)s, min(window_start), TIMESTAMPTZ 'epoch') AS since
    FROM unnest(%(symbols)s::text[], %(starts)s::timestamptz[]) AS given (symbol, window_start)
    GROUP BY symbol
) AS first
-- Looked at first, because a conflict locks its row even where nothing changes.
WHERE NOT EXISTS (
    SELECT FROM metrics_checked AS known
    WHERE known.exchange = %(exchange)s AND known.channel = %(channel)s AND known.symbol = first.symbol
      AND known.window_length = %(length)s AND known.since <= first.since
)
ORDER BY symbol
ON CONFLICT (exchange, channel, symbol, window_length) DO UPDATE SET since = excluded.since, through = excluded.since
WHERE excluded.since < held.since;
