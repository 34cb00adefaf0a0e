-- Of each stream and minute, the ids that are missing by its own numbers: 0 is proven, -1 is a stream whose
-- ids prove nothing.
-- Missing are ids within a minute and between it and the one before, which may lie before the range. Two prints that
-- changed places at a minute's end are absent in one minute and too many in the next: that is taken off.
SELECT $__timeGroupAlias(minute, $__interval),
       concat_ws(' ', exchange, symbol, channel) AS metric,
       coalesce(sum(missing) FILTER (WHERE grade = 'proven'), -1) AS missing
FROM (
    SELECT *, greatest(0, absent + least(0, lead(absent, 1, 0::bigint) OVER stream)) AS missing
    FROM (
        SELECT *, last_id - first_id + 1 - stored + coalesce(first_id - lag(last_id) OVER stream - 1, 0) AS absent
        FROM ledger
        WHERE minute BETWEEN $__timeFrom()::timestamptz - INTERVAL '1 hour' AND $__timeTo()::timestamptz
          AND exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[])
          AND channel = ANY ('{trade,aggTrade,bookTicker,depth}')
        WINDOW stream AS (PARTITION BY exchange, symbol, channel ORDER BY minute)
    ) AS minutes
    WINDOW stream AS (PARTITION BY exchange, symbol, channel ORDER BY minute)
) AS judged
WHERE $__timeFilter(minute)
GROUP BY 1, 2
ORDER BY 2, 1;
