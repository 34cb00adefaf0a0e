-- Prints per minute, whatever the length of a window.
SELECT $__timeGroupAlias(window_start, $__interval),
       concat_ws(' ', exchange, symbol) AS metric,
       sum(trade_count) * 60 / nullif(sum(extract(epoch FROM window_end - window_start)), 0) AS trades
FROM trade_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
GROUP BY 1, 2
ORDER BY 1, 2;
