-- Volatility of flagged windows of the last five minutes; 0 of the others.
SELECT window_start AS "time", exchange, symbol, CASE WHEN volatility_alert THEN volatility ELSE 0 END AS value
FROM trade_metrics
WHERE window_start > now() - INTERVAL '1 day' AND window_end > now() - INTERVAL '5 minutes'
ORDER BY 1;
