-- Judge the windows that changed.
WITH judged AS (
    UPDATE spread_metrics AS held SET
        spread_threshold = %(spread)s,
        spread_warning = coalesce(min_spread > 0 AND avg_spread > %(spread)s * min_spread, false)
    FROM (SELECT DISTINCT * FROM metrics_touched) AS touched
    WHERE held.symbol = touched.symbol AND held.window_start = touched.window_start
      AND held.exchange = %(exchange)s AND held.window_end = held.window_start + %(length)s
    RETURNING held.symbol, held.window_start
)
INSERT INTO metrics_judged SELECT * FROM judged UNION SELECT * FROM metrics_touched;
