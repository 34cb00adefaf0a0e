-- Raise an alert for each flag of the windows just judged, take back those whose flag is gone. Returns how many of each
-- kind are raised that were not before.
WITH flagged AS (
    SELECT held.exchange, held.symbol, flag.kind, held.window_start, held.window_end,
           flag.value, flag.threshold, flag.evidence
    FROM metrics_judged
    JOIN trade_metrics AS held USING (symbol, window_start)
    CROSS JOIN LATERAL (
        VALUES
            (
                'volatility', held.volatility_alert, held.volatility, held.volatility_threshold,
                jsonb_build_object(
                    'volatility', held.volatility, 'price_stddev', held.price_stddev, 'vwap', held.vwap,
                    'high', held.high, 'low', held.low, 'record_count', held.record_count
                )
            ),
            (
                'volume_spike', held.volume_spike, held.volume / nullif(held.volume_baseline, 0),
                held.volume_spike_threshold,
                jsonb_build_object(
                    'volume', held.volume, 'volume_baseline', held.volume_baseline, 'quote_volume', held.quote_volume,
                    'record_count', held.record_count
                )
            )
    ) AS flag (kind, raised, value, threshold, evidence)
    WHERE held.exchange = %(exchange)s AND held.window_end = held.window_start + %(length)s AND flag.raised
), withdrawn AS (
    UPDATE alerts AS held SET withdrawn_at = now()
    FROM metrics_judged AS judged
    WHERE held.symbol = judged.symbol AND held.window_start = judged.window_start AND held.exchange = %(exchange)s
      AND held.window_end = held.window_start + %(length)s AND held.withdrawn_at IS NULL
      AND held.kind IN ('volatility', 'volume_spike')
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
