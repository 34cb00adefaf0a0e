-- Write the windows of one batch of the stream. More records win, so that a replay takes nothing back; of as many, what
-- was computed from the stored records stays. A window that changes is judged anew.
WITH written AS (
    INSERT INTO trade_metrics AS held (
        exchange, symbol, window_start, window_end, channel, record_count, trade_count, first_id, last_id, open, high,
        low, close, volume, quote_volume, taker_buy_volume, price_sum, price_square_sum,
        complete, batch_id
    )
    SELECT given.*, %(unproven)s, %(batch_id)s
    FROM unnest(
        %(exchange)s::text[], %(symbol)s::text[], %(window_start)s::timestamptz[], %(window_end)s::timestamptz[],
        %(channel)s::text[], %(record_count)s::bigint[], %(trade_count)s::bigint[], %(first_id)s::bigint[],
        %(last_id)s::bigint[], %(open)s::numeric[], %(high)s::numeric[], %(low)s::numeric[], %(close)s::numeric[],
        %(volume)s::numeric[], %(quote_volume)s::numeric[], %(taker_buy_volume)s::numeric[], %(price_sum)s::numeric[],
        %(price_square_sum)s::numeric[]
    ) AS given
    ON CONFLICT (symbol, window_start, window_end, exchange) DO UPDATE SET
        channel = excluded.channel,
        record_count = excluded.record_count,
        trade_count = excluded.trade_count,
        first_id = excluded.first_id,
        last_id = excluded.last_id,
        open = excluded.open,
        high = excluded.high,
        low = excluded.low,
        close = excluded.close,
        volume = excluded.volume,
        quote_volume = excluded.quote_volume,
        taker_buy_volume = excluded.taker_buy_volume,
        price_sum = excluded.price_sum,
        price_square_sum = excluded.price_square_sum,
        volatility_threshold = NULL,
        volume_spike_threshold = NULL,
        complete = excluded.complete,
        batch_id = excluded.batch_id,
        updated_at = now(),
        corrected_at = NULL
    WHERE held.channel <> excluded.channel
       OR held.record_count < excluded.record_count
       OR held.record_count = excluded.record_count AND held.corrected_at IS NULL AND (
           held.record_count, held.trade_count, held.first_id, held.last_id, held.open, held.high, held.low,
           held.close, held.volume, held.quote_volume, held.taker_buy_volume, held.price_sum, held.price_square_sum
       ) IS DISTINCT FROM (
           excluded.record_count, excluded.trade_count, excluded.first_id, excluded.last_id, excluded.open,
           excluded.high, excluded.low, excluded.close, excluded.volume, excluded.quote_volume,
           excluded.taker_buy_volume, excluded.price_sum, excluded.price_square_sum
       )
    RETURNING symbol, window_start
)
INSERT INTO metrics_touched SELECT symbol, window_start FROM written;
