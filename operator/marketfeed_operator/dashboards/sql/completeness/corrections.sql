-- Windows that were computed anew from the stored records, by the time of the window.
SELECT $__timeGroupAlias(window_start, $__interval), 'trade_metrics' AS metric, count(*) AS windows
FROM trade_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
  AND corrected_at IS NOT NULL
GROUP BY 1
UNION ALL
SELECT $__timeGroupAlias(window_start, $__interval), 'spread_metrics', count(*)
FROM spread_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
  AND corrected_at IS NOT NULL
GROUP BY 1
ORDER BY 1, 2;
