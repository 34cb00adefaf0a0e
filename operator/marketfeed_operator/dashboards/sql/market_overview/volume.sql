-- Traded volume in the quote asset, in which symbols of one quote compare.
SELECT $__timeGroupAlias(window_start, $__interval),
       concat_ws(' ', exchange, symbol) AS metric,
       sum(quote_volume) AS volume
FROM trade_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
GROUP BY 1, 2
ORDER BY 1, 2;
