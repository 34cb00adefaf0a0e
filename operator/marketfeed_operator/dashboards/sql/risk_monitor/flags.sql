-- Flags over time by kind.
SELECT $__timeGroupAlias(window_start, $__interval), replace(kind, '_', ' ') AS metric, count(*) AS flags
FROM alerts
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
  AND withdrawn_at IS NULL
GROUP BY 1, 2
ORDER BY 1, 2;
