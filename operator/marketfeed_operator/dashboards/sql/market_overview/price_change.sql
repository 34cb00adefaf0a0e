-- How far each symbol's price is from the first of the range.
SELECT $__timeGroupAlias(window_start, $__interval),
       metric,
       (array_agg(close ORDER BY window_start DESC))[1] / nullif(min(first_open), 0) - 1 AS change
FROM (
    SELECT window_start, concat_ws(' ', exchange, symbol) AS metric, close,
           first_value(open) OVER (PARTITION BY exchange, symbol ORDER BY window_start) AS first_open
    FROM trade_metrics
    WHERE $__timeFilter(window_start)
      AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
) AS windows
GROUP BY 1, 2
ORDER BY 1, 2;
