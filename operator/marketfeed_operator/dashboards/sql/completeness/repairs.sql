-- Rows that came by backfill, of all that are stored.
SELECT $__timeGroupAlias(minute, $__interval),
       concat_ws(' ', exchange, symbol, channel) AS metric,
       sum(repaired) AS repaired
FROM ledger
WHERE $__timeFilter(minute)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
  AND channel = ANY ('{trade,aggTrade,bookTicker,depth}')
GROUP BY 1, 2
HAVING sum(repaired) > 0
ORDER BY 1, 2;
