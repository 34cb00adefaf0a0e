-- From a window's end to the last writing of its row, of windows that no correction wrote.
SELECT $__timeGroupAlias(window_start, $__interval), 'trade_metrics' AS metric,
       avg(extract(epoch FROM updated_at - window_end)) AS seconds
FROM trade_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
  AND corrected_at IS NULL AND window_end < now() - INTERVAL '1 minute'
GROUP BY 1
UNION ALL
SELECT $__timeGroupAlias(window_start, $__interval), 'spread_metrics',
       avg(extract(epoch FROM updated_at - window_end))
FROM spread_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
  AND corrected_at IS NULL AND window_end < now() - INTERVAL '1 minute'
GROUP BY 1
ORDER BY 1, 2;
