-- Mean spread, in basis points, of flagged windows of the last five minutes; 0 of the others.
SELECT window_start AS "time", exchange, symbol, CASE WHEN spread_warning THEN avg_spread_bps ELSE 0 END AS value
FROM spread_metrics
WHERE window_start > now() - INTERVAL '1 day' AND window_end > now() - INTERVAL '5 minutes'
ORDER BY 1;
