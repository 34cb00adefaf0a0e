-- The windows that were flagged, as points.
SELECT window_start AS "time",
       concat_ws(' ', exchange, symbol, 'warning') AS metric,
       avg_spread_bps AS average
FROM spread_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
  AND spread_warning
ORDER BY 1, 2;
