-- Of the traded volume, what takers bought.
SELECT $__timeGroupAlias(window_start, $__interval),
       concat_ws(' ', exchange, symbol) AS metric,
       sum(taker_buy_volume) / nullif(sum(volume), 0) AS share
FROM trade_metrics
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
GROUP BY 1, 2
ORDER BY 1, 2;
