-- Compute windows anew from the stored records, where they differ from the ledger; write those that change. A window
-- without any record goes, unless the ledger counted some: then it is the records that are gone, by their retention.
WITH computed AS (
    SELECT groups.symbol, groups.starts, figures.*
    FROM metrics_groups AS groups
    CROSS JOIN LATERAL (
        SELECT date_bin(%(length)s, raw.event_time, TIMESTAMPTZ 'epoch') AS window_start,
               count(*) AS quote_updates, min(update_id) AS first_id, max(update_id) AS last_id,
               sum(spread) AS spread_sum, min(spread) AS min_spread, max(spread) AS max_spread,
               sum(bps) AS spread_bps_sum, min(bps) AS min_spread_bps, max(bps) AS max_spread_bps
        FROM book_ticker AS raw,
             LATERAL (
                 SELECT ask_price - bid_price AS spread,
                        -- Exact: cut off after 8 decimals.
                        coalesce(div((ask_price - bid_price) * 2000000000000, nullif(ask_price + bid_price, 0)), 0)
                        * 0.00000001 AS bps
             ) AS quote
        WHERE raw.symbol = groups.symbol AND raw.exchange = %(exchange)s 
          AND raw.event_time >= groups.starts AND raw.event_time < groups.starts + %(group)s
        GROUP BY 1
    ) AS figures
    WHERE groups.chosen
), written AS (
    INSERT INTO spread_metrics AS held (
        exchange, symbol, window_start, window_end, quote_updates, first_id, last_id, spread_sum, min_spread,
        max_spread, spread_bps_sum, min_spread_bps, max_spread_bps,
        complete, corrected_at
    )
    SELECT %(exchange)s, symbol, window_start, window_start + %(length)s,
           quote_updates, first_id, last_id, spread_sum, min_spread, max_spread, spread_bps_sum, min_spread_bps,
           max_spread_bps,
           %(unproven)s, now()
    FROM computed
    ON CONFLICT (symbol, window_start, window_end, exchange) DO UPDATE SET
        quote_updates = excluded.quote_updates,
        first_id = excluded.first_id,
        last_id = excluded.last_id,
        spread_sum = excluded.spread_sum,
        min_spread = excluded.min_spread,
        max_spread = excluded.max_spread,
        spread_bps_sum = excluded.spread_bps_sum,
        min_spread_bps = excluded.min_spread_bps,
        max_spread_bps = excluded.max_spread_bps,
        spread_threshold = NULL,
        complete = excluded.complete,
        updated_at = now(),
        corrected_at = excluded.corrected_at
    WHERE (
           held.quote_updates, held.first_id, held.last_id, held.spread_sum, held.min_spread, held.max_spread,
           held.spread_bps_sum, held.min_spread_bps, held.max_spread_bps
    ) IS DISTINCT FROM (
           excluded.quote_updates, excluded.first_id, excluded.last_id, excluded.spread_sum, excluded.min_spread,
           excluded.max_spread, excluded.spread_bps_sum, excluded.min_spread_bps, excluded.max_spread_bps
    )
    RETURNING symbol, window_start
), gone AS (
    DELETE FROM spread_metrics AS held
    USING metrics_groups AS groups
    WHERE groups.chosen AND held.symbol = groups.symbol AND held.exchange = %(exchange)s
      AND held.window_start >= groups.starts AND held.window_start < groups.starts + %(group)s
      AND held.window_end = held.window_start + %(length)s
      AND NOT EXISTS (
          SELECT FROM computed WHERE computed.symbol = held.symbol AND computed.window_start = held.window_start
      )
      AND (groups.stored = 0 OR EXISTS (
          SELECT FROM computed WHERE computed.symbol = groups.symbol AND computed.starts = groups.starts
      ))
    RETURNING held.symbol, held.window_start
)
INSERT INTO metrics_touched SELECT * FROM written UNION ALL SELECT * FROM gone;
