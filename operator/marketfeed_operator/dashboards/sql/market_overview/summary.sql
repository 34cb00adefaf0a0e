-- One row per symbol: its last price, and what its windows in the range add up to.
SELECT exchange, symbol, last_price, change, vwap, quote_volume, trades, taker_buy_share, spread_bps
FROM (
    SELECT exchange, symbol,
           (array_agg(close ORDER BY window_start DESC))[1] AS last_price,
           (array_agg(close ORDER BY window_start DESC))[1] / nullif((array_agg(open ORDER BY window_start))[1], 0) - 1
               AS change,
           sum(quote_volume) / nullif(sum(volume), 0) AS vwap,
           sum(quote_volume) AS quote_volume,
           sum(trade_count) AS trades,
           sum(taker_buy_volume) / nullif(sum(volume), 0) AS taker_buy_share
    FROM trade_metrics
    WHERE $__timeFilter(window_start)
      AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
    GROUP BY exchange, symbol
) AS traded
FULL JOIN (
    SELECT exchange, symbol, sum(spread_bps_sum) / nullif(sum(quote_updates), 0) AS spread_bps
    FROM spread_metrics
    WHERE $__timeFilter(window_start)
      AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
    GROUP BY exchange, symbol
) AS quoted USING (exchange, symbol)
ORDER BY quote_volume DESC NULLS LAST;
