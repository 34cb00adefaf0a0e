-- What the windows were judged by.
SELECT $__timeGroupAlias(window_start, $__interval), 'threshold' AS metric, min(volume_spike_threshold) AS threshold
FROM trade_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
GROUP BY 1
ORDER BY 1;
