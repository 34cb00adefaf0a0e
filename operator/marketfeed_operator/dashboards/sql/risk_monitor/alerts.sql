-- Each flag with what it was judged by; one that a correction took back stays, with the time.
SELECT window_start, window_end, exchange, symbol, kind, value, threshold,
       evidence::text AS evidence, raised_at, withdrawn_at
FROM alerts
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
ORDER BY window_start DESC, symbol, kind
LIMIT 200;
