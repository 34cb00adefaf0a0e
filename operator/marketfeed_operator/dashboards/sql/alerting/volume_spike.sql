-- Volume of flagged windows of the last five minutes as a multiple of their baseline; 0 of the others.
SELECT window_start AS "time", exchange, symbol,
       CASE WHEN volume_spike THEN volume / nullif(volume_baseline, 0) ELSE 0 END AS value
FROM trade_metrics
WHERE window_start > now() - INTERVAL '1 day' AND window_end > now() - INTERVAL '5 minutes'
ORDER BY 1;
