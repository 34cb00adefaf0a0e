-- Judge the windows that changed, and those whose volume is compared with theirs: the five after each; after a first
-- one also those that knew too little before. Thresholds stay as long as the figures do.
WITH reach AS (
    SELECT touched.symbol, touched.window_start AS since,
           -- When a symbol's first window goes, it is the next one that too little is known after.
           5 * %(length)s + coalesce(
               CASE WHEN before.window_start IS NULL THEN following.window_start END, touched.window_start
           ) AS until
    FROM metrics_touched AS touched
    LEFT JOIN LATERAL (
        SELECT window_start FROM trade_metrics AS held
        WHERE held.symbol = touched.symbol AND held.exchange = %(exchange)s
          AND held.window_start < touched.window_start AND held.window_end = held.window_start + %(length)s
        ORDER BY window_start DESC LIMIT 1
    ) AS before ON true
    LEFT JOIN LATERAL (
        SELECT window_start FROM trade_metrics AS held
        WHERE held.symbol = touched.symbol AND held.exchange = %(exchange)s
          AND held.window_start > touched.window_start AND held.window_end = held.window_start + %(length)s
        ORDER BY window_start LIMIT 1
    ) AS following ON true
), affected AS (
    SELECT held.symbol, held.window_start
    FROM reach
    JOIN trade_metrics AS held ON held.symbol = reach.symbol AND held.window_start BETWEEN reach.since AND reach.until
    WHERE held.exchange = %(exchange)s AND held.window_end = held.window_start + %(length)s
    UNION
    SELECT held.symbol, held.window_start
    FROM trade_metrics AS held
    WHERE held.symbol IN (SELECT symbol FROM metrics_touched) AND held.volume_baseline IS NULL
      AND held.exchange = %(exchange)s AND held.window_end = held.window_start + %(length)s
), known AS (
    SELECT affected.*, CASE WHEN warm THEN trim_scale(coalesce(volume, 0) * 0.2) END AS baseline  -- a fifth, exactly
    FROM affected
    CROSS JOIN LATERAL (
        SELECT sum(volume) AS volume
        FROM trade_metrics AS before
        WHERE before.symbol = affected.symbol AND before.exchange = %(exchange)s
          AND before.window_start >= affected.window_start - 5 * %(length)s
          AND before.window_start < affected.window_start
          AND before.window_end = before.window_start + %(length)s
    ) AS volumes
    CROSS JOIN LATERAL (
        SELECT (
            SELECT true FROM trade_metrics AS before
            WHERE before.symbol = affected.symbol AND before.exchange = %(exchange)s
              AND before.window_start <= affected.window_start - 5 * %(length)s
              AND before.window_end = before.window_start + %(length)s
            ORDER BY before.window_start DESC LIMIT 1
        ) AS warm
    ) AS warmth
), thresholds AS (
    SELECT known.*,
           coalesce(held.volatility_threshold, %(volatility)s::numeric) AS volatility_threshold,
           CASE WHEN held.volume_baseline IS DISTINCT FROM known.baseline THEN %(volume_spike)s::numeric
                ELSE coalesce(held.volume_spike_threshold, %(volume_spike)s::numeric) END AS volume_spike_threshold
    FROM known
    JOIN trade_metrics AS held USING (symbol, window_start)
    WHERE held.exchange = %(exchange)s AND held.window_end = held.window_start + %(length)s
), judged AS (
    UPDATE trade_metrics AS held SET
        volume_baseline = judge.baseline,
        volatility_threshold = judge.volatility_threshold,
        volume_spike_threshold = judge.volume_spike_threshold,
        volatility_alert = coalesce(held.volatility > judge.volatility_threshold, false),
        volume_spike = coalesce(
            judge.baseline > 0 AND held.volume > judge.volume_spike_threshold * judge.baseline, false
        ),
        updated_at = now()
    FROM thresholds AS judge
    WHERE held.symbol = judge.symbol AND held.window_start = judge.window_start
      AND held.exchange = %(exchange)s AND held.window_end = held.window_start + %(length)s
      AND (held.volume_baseline, held.volatility_threshold, held.volume_spike_threshold)
          IS DISTINCT FROM (judge.baseline, judge.volatility_threshold, judge.volume_spike_threshold)
    RETURNING held.symbol, held.window_start
)
INSERT INTO metrics_judged SELECT * FROM judged UNION SELECT * FROM metrics_touched;
