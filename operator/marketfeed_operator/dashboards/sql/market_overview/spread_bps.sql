-- Mean spread of all quote updates.
SELECT $__timeGroupAlias(window_start, $__interval),
       concat_ws(' ', exchange, symbol) AS metric,
       sum(spread_bps_sum) / nullif(sum(quote_updates), 0) AS spread
FROM spread_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
GROUP BY 1, 2
ORDER BY 1, 2;
