-- Write the windows of one batch of the stream. More records win, so that a replay takes nothing back; of as many, what
-- was computed from the stored records stays. A window that changes is judged anew.
WITH written AS (
    INSERT INTO spread_metrics AS held (
        exchange, symbol, window_start, window_end, quote_updates, first_id, last_id, spread_sum, min_spread,
        max_spread, spread_bps_sum, min_spread_bps, max_spread_bps,
        complete, batch_id
    )
    SELECT given.*, %(unproven)s, %(batch_id)s
    FROM unnest(
        %(exchange)s::text[], %(symbol)s::text[], %(window_start)s::timestamptz[], %(window_end)s::timestamptz[],
        %(quote_updates)s::bigint[], %(first_id)s::bigint[], %(last_id)s::bigint[], %(spread_sum)s::numeric[],
        %(min_spread)s::numeric[], %(max_spread)s::numeric[], %(spread_bps_sum)s::numeric[],
        %(min_spread_bps)s::numeric[], %(max_spread_bps)s::numeric[]
    ) AS given
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
        batch_id = excluded.batch_id,
        updated_at = now(),
        corrected_at = NULL
    WHERE held.quote_updates < excluded.quote_updates
       OR held.quote_updates = excluded.quote_updates AND held.corrected_at IS NULL AND (
           held.quote_updates, held.first_id, held.last_id, held.spread_sum, held.min_spread, held.max_spread,
           held.spread_bps_sum, held.min_spread_bps, held.max_spread_bps
       ) IS DISTINCT FROM (
           excluded.quote_updates, excluded.first_id, excluded.last_id, excluded.spread_sum, excluded.min_spread,
           excluded.max_spread, excluded.spread_bps_sum, excluded.min_spread_bps, excluded.max_spread_bps
       )
    RETURNING symbol, window_start
)
INSERT INTO metrics_touched SELECT symbol, window_start FROM written;
