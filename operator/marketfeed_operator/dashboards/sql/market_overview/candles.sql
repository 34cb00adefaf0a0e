-- Open, high, low, close and volume of one symbol: the panel is repeated for each.
SELECT $__timeGroupAlias(window_start, $__interval),
       (array_agg(open ORDER BY window_start))[1] AS open,
       max(high) AS high,
       min(low) AS low,
       (array_agg(close ORDER BY window_start DESC))[1] AS close,
       sum(volume) AS volume
FROM trade_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
GROUP BY 1
ORDER BY 1;
