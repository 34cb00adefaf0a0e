-- Each window's volume as a multiple of the mean of the five before; none while too few are known.
SELECT $__timeGroupAlias(window_start, $__interval),
       concat_ws(' ', exchange, symbol) AS metric,
       max(volume / nullif(volume_baseline, 0)) AS ratio
FROM trade_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
GROUP BY 1, 2
ORDER BY 1, 2;
