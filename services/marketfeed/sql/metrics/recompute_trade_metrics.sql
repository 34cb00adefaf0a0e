-- Compute windows anew from the stored records, where they differ from the ledger; write those that change. A window
-- without any record goes, unless the ledger counted some: then it is the records that are gone, by their retention.
WITH computed AS (
    SELECT groups.symbol, groups.starts, figures.*
    FROM metrics_groups AS groups
    CROSS JOIN LATERAL (
        SELECT date_bin(%(length)s, raw.event_time, TIMESTAMPTZ 'epoch') AS window_start,
               count(*) AS record_count,
               sum(CASE %(channel)s WHEN 'aggTrade' THEN last_trade_id - first_trade_id + 1 ELSE 1 END)::bigint
                   AS trade_count,
               min(trade_id) AS first_id, max(trade_id) AS last_id,
               (array_agg(price ORDER BY trade_id))[1] AS open, max(price) AS high, min(price) AS low,
               (array_agg(price ORDER BY trade_id DESC))[1] AS close,
               sum(quantity) AS volume, sum(price * quantity) AS quote_volume,
               coalesce(sum(quantity) FILTER (WHERE side = 'buy'), 0) AS taker_buy_volume,
               sum(price) AS price_sum, sum(price * price) AS price_square_sum
        FROM trades AS raw
        WHERE raw.symbol = groups.symbol AND raw.exchange = %(exchange)s AND raw.channel = %(channel)s
          AND raw.event_time >= groups.starts AND raw.event_time < groups.starts + %(group)s
        GROUP BY 1
    ) AS figures
    WHERE groups.chosen
), written AS (
    INSERT INTO trade_metrics AS held (
        exchange, symbol, window_start, window_end, channel, record_count, trade_count, first_id, last_id, open, high,
        low, close, volume, quote_volume, taker_buy_volume, price_sum, price_square_sum,
        complete, corrected_at
    )
    SELECT %(exchange)s, symbol, window_start, window_start + %(length)s, %(channel)s,
           record_count, trade_count, first_id, last_id, open, high, low, close, volume, quote_volume,
           taker_buy_volume, price_sum, price_square_sum,
           %(unproven)s, now()
    FROM computed
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
        updated_at = now(),
        corrected_at = excluded.corrected_at
    WHERE (
           held.channel, held.record_count, held.trade_count, held.first_id, held.last_id, held.open, held.high,
           held.low, held.close, held.volume, held.quote_volume, held.taker_buy_volume, held.price_sum,
           held.price_square_sum
    ) IS DISTINCT FROM (
           excluded.channel, excluded.record_count, excluded.trade_count, excluded.first_id, excluded.last_id,
           excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.quote_volume,
           excluded.taker_buy_volume, excluded.price_sum, excluded.price_square_sum
    )
    RETURNING symbol, window_start
), gone AS (
    DELETE FROM trade_metrics AS held
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
