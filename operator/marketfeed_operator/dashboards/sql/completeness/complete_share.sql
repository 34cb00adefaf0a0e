-- Windows that the ledger proves, of those that it can judge. The newest are still open, and left out.
SELECT $__timeGroupAlias(window_start, $__interval),
       concat_ws(' ', exchange, symbol) AS metric,
       avg(complete::int) AS share
FROM trade_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
  AND complete IS NOT NULL AND window_end < now() - INTERVAL '3 minutes'
GROUP BY 1, 2
ORDER BY 1, 2;
