-- Raise an alert for each flag of the windows just judged, take back those whose flag is gone. Returns how many of each
-- kind are raised that were not before.
WITH flagged AS (
    SELECT held.exchange, held.symbol, flag.kind, held.window_start, held.window_end,
           flag.value, flag.threshold, flag.evidence
    FROM metrics_judged
    JOIN spread_metrics AS held USING (symbol, window_start)
    CROSS JOIN LATERAL (
        VALUES
            (
                'spread', held.spread_warning, held.avg_spread / nullif(held.min_spread, 0), held.spread_threshold,
                jsonb_build_object(
                    'avg_spread', held.avg_spread, 'min_spread', held.min_spread, 'max_spread', held.max_spread,
                    'avg_spread_bps', held.avg_spread_bps, 'quote_updates', held.quote_updates
                )
            )
    ) AS flag (kind, raised, value, threshold, evidence)
    WHERE held.exchange = %(exchange)s AND held.window_end = held.window_start + %(length)s AND flag.raised
), withdrawn AS (
    UPDATE alerts AS held SET withdrawn_at = now()
    FROM metrics_judged AS judged
    WHERE held.symbol = judged.symbol AND held.window_start = judged.window_start AND held.exchange = %(exchange)s
      AND held.window_end = held.window_start + %(length)s AND held.kind IN ('spread') AND held.withdrawn_at IS NULL
      AND NOT EXISTS (
          SELECT FROM flagged
          WHERE (flagged.symbol, flagged.window_start, flagged.kind) = (held.symbol, held.window_start, held.kind)
      )
), raised AS (
    INSERT INTO alerts AS held (exchange, symbol, kind, window_start, window_end, value, threshold, evidence)
    SELECT * FROM flagged
    ON CONFLICT (symbol, window_start, window_end, kind, exchange) DO UPDATE SET
        value = excluded.value, threshold = excluded.threshold, evidence = excluded.evidence, withdrawn_at = NULL
    WHERE held.withdrawn_at IS NOT NULL
       OR (held.value, held.threshold, held.evidence)
          IS DISTINCT FROM (excluded.value, excluded.threshold, excluded.evidence)
    RETURNING symbol, window_start, window_end, kind, exchange
)
SELECT raised.kind, count(*)
FROM raised
-- As it was before this statement.
LEFT JOIN alerts AS before USING (symbol, window_start, window_end, kind, exchange)
WHERE before.raised_at IS NULL OR before.withdrawn_at IS NOT NULL
GROUP BY raised.kind;
