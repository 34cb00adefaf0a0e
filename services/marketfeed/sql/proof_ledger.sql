-- What the ledger holds of some exchanges' channels in a stretch of minutes and around it (see proof.Stretch): of each
-- stream one row at most for each of its four parts.
-- Streams are found by jumping from one to the next in the primary key, and their minutes are read from there: what
-- this costs depends on the streams and the minutes asked for, not on how long the ledger is. An index on the minute
-- would do as well here, but would offer itself to every batch's look for duplicates, where it is the wrong one.
WITH RECURSIVE streams AS (
    (SELECT exchange, symbol, channel FROM ledger ORDER BY exchange, symbol, channel LIMIT 1)
    UNION ALL
    SELECT following.*
    FROM streams, LATERAL (
        SELECT exchange, symbol, channel FROM ledger
        WHERE (exchange, symbol, channel) > (streams.exchange, streams.symbol, streams.channel)
        ORDER BY exchange, symbol, channel LIMIT 1
    ) AS following
)
SELECT exchange, symbol, channel, parts.*
FROM streams
JOIN unnest(%(exchange)s::text[], %(channel)s::text[]) AS wanted (exchange, channel) USING (exchange, channel),
LATERAL (
    SELECT (extract(epoch FROM min(minute)) * 1000000)::bigint,
           sum(stored)::bigint, sum(repaired)::bigint, min(first_id), max(last_id)
    FROM ledger
    WHERE ledger.exchange = streams.exchange AND ledger.symbol = streams.symbol AND ledger.channel = streams.channel
      AND minute >= to_timestamp(%(read_from_s)s)
    GROUP BY minute >= to_timestamp(%(margin_s)s), minute >= to_timestamp(%(since_s)s),
             minute >= to_timestamp(%(until_s)s)
) AS parts;
