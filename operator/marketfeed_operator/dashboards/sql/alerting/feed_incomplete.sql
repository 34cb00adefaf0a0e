-- Ids that are missing in the minutes from an hour to five minutes ago; five are left for a repair.
-- Streams are found by jumping from one to the next in the primary key. How ids are counted: completeness/minutes.sql.
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
SELECT now() AS "time", exchange, symbol, channel, sum(missing) AS value
FROM streams, LATERAL (
    SELECT minute, greatest(0, absent + least(0, lead(absent, 1, 0::bigint) OVER (ORDER BY minute))) AS missing
    FROM (
        SELECT minute, last_id - first_id + 1 - stored
                       + coalesce(first_id - lag(last_id) OVER (ORDER BY minute) - 1, 0) AS absent
        FROM ledger
        WHERE ledger.exchange = streams.exchange AND ledger.symbol = streams.symbol
          AND ledger.channel = streams.channel AND grade = 'proven' AND minute > now() - INTERVAL '2 hours'
    ) AS minutes
) AS judged
WHERE minute BETWEEN now() - INTERVAL '1 hour' AND now() - INTERVAL '6 minutes'
GROUP BY exchange, symbol, channel
ORDER BY exchange, symbol, channel;
