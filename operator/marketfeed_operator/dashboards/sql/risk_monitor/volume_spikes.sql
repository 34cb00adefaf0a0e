-- The windows that were flagged, as points.
SELECT window_start AS "time",
       concat_ws(' ', exchange, symbol, 'spike') AS metric,
       volume / nullif(volume_baseline, 0) AS ratio
FROM trade_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
  AND volume_spike
ORDER BY 1, 2;
