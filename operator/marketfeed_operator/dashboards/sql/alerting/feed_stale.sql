-- How long nothing was stored of a symbol, in seconds, where it traded or was quoted in every other minute of the hour
-- before at least: quiet symbols are no alarm. After a day it is taken for one that nobody asks for any more.
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
SELECT now() AS "time", exchange, symbol,
       extract(epoch FROM greatest(now() - (newest + INTERVAL '1 minute'), INTERVAL '0')) AS value
FROM (
    SELECT exchange, symbol, max(last.minute) AS newest
    FROM streams, LATERAL (
        SELECT minute FROM ledger
        WHERE ledger.exchange = streams.exchange AND ledger.symbol = streams.symbol AND ledger.channel = streams.channel
        ORDER BY minute DESC LIMIT 1
    ) AS last
    GROUP BY exchange, symbol
) AS symbols,
LATERAL (
    SELECT count(DISTINCT minute) AS minutes, min(minute) AS oldest
    FROM ledger
    WHERE ledger.exchange = symbols.exchange AND ledger.symbol = symbols.symbol
      AND channel = ANY ('{trade,aggTrade,bookTicker,depth}') AND minute > newest - INTERVAL '1 hour'
) AS hour
WHERE newest > now() - INTERVAL '1 day' AND minutes * 120 >= extract(epoch FROM newest - oldest) + 60
ORDER BY exchange, symbol;
