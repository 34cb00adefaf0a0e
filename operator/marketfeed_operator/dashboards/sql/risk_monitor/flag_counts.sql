-- Flags of the range by kind, and how many of all kinds a correction took back.
SELECT count(*) FILTER (WHERE kind = 'volatility' AND withdrawn_at IS NULL) AS "volatility",
       count(*) FILTER (WHERE kind = 'volume_spike' AND withdrawn_at IS NULL) AS "volume spike",
       count(*) FILTER (WHERE kind = 'spread' AND withdrawn_at IS NULL) AS "spread",
       count(*) FILTER (WHERE withdrawn_at IS NOT NULL) AS "taken back"
FROM alerts
WHERE $__timeFilter(window_start)
  AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[]);
