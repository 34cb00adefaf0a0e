-- From the venue's match to our receipt, of twenty prints per symbol and interval: a sample, read from the primary key.
SELECT starts AS "time",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS half,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS "95 %"
FROM generate_series(
         $__timeFrom()::timestamptz, $__timeTo()::timestamptz, make_interval(secs => $__interval_ms / 1000.0)
     ) AS starts,
     unnest(ARRAY[$symbol]::text[]) AS wanted (name),
     LATERAL (
         SELECT extract(epoch FROM ingestion_time - event_time) AS seconds
         FROM trades
         WHERE symbol = wanted.name AND exchange = ANY (ARRAY[$exchange]::text[]) AND source = 'stream'
           AND event_time >= starts AND event_time < starts + make_interval(secs => $__interval_ms / 1000.0)
         ORDER BY event_time
         LIMIT 20
     ) AS sample
GROUP BY 1
ORDER BY 1;
