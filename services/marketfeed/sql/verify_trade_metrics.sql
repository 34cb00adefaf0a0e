-- Compute every window of trade_metrics from the stored records, flags included, and compare. Returns one row: how many
-- windows were looked at, how many of them are equal, complete, or waiting to be corrected, and what is different about
-- the others. Unless the whole is asked for, only windows that ended two minutes ago count, and those whose minutes
-- wait to be corrected do not.
WITH held AS (
    SELECT *, window_end - window_start AS length
    FROM trade_metrics
    WHERE (%(since)s::timestamptz IS NULL OR window_start >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR window_end <= %(until)s)
      AND (%(symbols)s::text[] IS NULL OR symbol = ANY (%(symbols)s))
      AND (%(channels)s::text[] IS NULL OR channel = ANY (%(channels)s))
      AND (%(whole)s OR window_end < now() - interval '2 minutes')
), lengths AS (
    SELECT exchange, channel, window_length AS length, max(through) AS through
    FROM metrics_checked
    WHERE channel <> 'bookTicker'
    GROUP BY exchange, channel, window_length
), promised AS (
    -- Where every window must be there: up to now for the length that is kept up to date, for others as far as they
    -- got.
    SELECT checked.exchange, checked.symbol, checked.channel, lengths.length, checked.since,
           CASE WHEN %(whole)s THEN 'infinity'
                WHEN lengths.through = max(lengths.through) OVER (PARTITION BY checked.exchange)
                THEN now() - interval '2 minutes'
                ELSE checked.through END AS until
    FROM metrics_checked AS checked
    JOIN lengths ON (checked.exchange, checked.channel, checked.window_length)
                    = (lengths.exchange, lengths.channel, lengths.length)
    WHERE (%(symbols)s::text[] IS NULL OR symbol = ANY (%(symbols)s))
      AND (%(channels)s::text[] IS NULL OR checked.channel = ANY (%(channels)s))
), kinds AS (
    SELECT DISTINCT exchange, channel, length FROM held
    UNION
    SELECT exchange, channel, length FROM lengths
), counted AS (
    SELECT exchange, symbol, channel, length, date_bin(length, event_time, TIMESTAMPTZ 'epoch') AS window_start,
           count(*) AS record_count,
           CASE channel WHEN 'trade' THEN count(*) ELSE sum(last_trade_id) - sum(first_trade_id) + count(*) END
               AS trade_count,
           min(trade_id) AS first_id, max(trade_id) AS last_id,
           (min(ARRAY[trade_id, price]))[2] AS open, max(price) AS high, min(price) AS low,
           (max(ARRAY[trade_id, price]))[2] AS close,
           sum(quantity) AS volume, sum(quantity * price) AS quote_volume,
           sum(CASE side WHEN 'buy' THEN quantity ELSE 0 END) AS taker_buy_volume,
           sum(price) AS price_sum, sum(price * price) AS price_square_sum
    FROM trades
    JOIN kinds USING (exchange, channel)
    WHERE (%(since)s::timestamptz IS NULL OR event_time >= %(since)s::timestamptz - 5 * length)
      AND (%(until)s::timestamptz IS NULL OR event_time < %(until)s)
      AND (%(symbols)s::text[] IS NULL OR symbol = ANY (%(symbols)s))
    GROUP BY exchange, symbol, channel, length, date_bin(length, event_time, TIMESTAMPTZ 'epoch')
), known AS (
    -- Every window that there is, with the volume that its records add up to.
    SELECT present.exchange, present.symbol, kinds.length, present.window_start, counted.volume,
           min(present.window_start) OVER (PARTITION BY present.exchange, present.symbol, kinds.length) AS first_start
    FROM trade_metrics AS present
    JOIN kinds ON (kinds.exchange, kinds.channel, kinds.length)
                  = (present.exchange, present.channel, present.window_end - present.window_start)
    LEFT JOIN counted ON counted.exchange = present.exchange AND counted.symbol = present.symbol
        AND counted.channel = present.channel AND counted.length = kinds.length
        AND counted.window_start = present.window_start
), baselines AS (
    SELECT known.exchange, known.symbol, known.length, known.window_start,
           CASE WHEN min(known.first_start) <= known.window_start - 5 * known.length
                THEN coalesce(sum(before.volume), 0) * 0.2 END AS baseline
    FROM known
    CROSS JOIN generate_series(1, 5) AS back
    LEFT JOIN known AS before ON before.exchange = known.exchange AND before.symbol = known.symbol
        AND before.length = known.length AND before.window_start = known.window_start - back * known.length
    GROUP BY known.exchange, known.symbol, known.length, known.window_start
), figured AS (
    SELECT held.exchange, held.symbol, held.channel, held.window_start, held.window_end,
           counted.window_start IS NOT NULL AS is_there,
           counted.record_count,
           counted.trade_count,
           counted.first_id,
           counted.last_id,
           counted.open,
           counted.high,
           counted.low,
           counted.close,
           counted.volume,
           counted.quote_volume,
           counted.taker_buy_volume,
           counted.price_sum,
           counted.price_square_sum,
           share.vwap, spread.price_stddev, spread.price_stddev / nullif(share.vwap, 0) AS volatility,
           share.taker_buy_share, baselines.baseline AS volume_baseline,
           coalesce(spread.price_stddev / nullif(share.vwap, 0) > held.volatility_threshold, false) AS volatility_alert,
           coalesce(
               baselines.baseline > 0 AND counted.volume > held.volume_spike_threshold * baselines.baseline, false
           ) AS volume_spike
    FROM held
    LEFT JOIN counted USING (exchange, symbol, channel, length, window_start)
    LEFT JOIN baselines USING (exchange, symbol, length, window_start)
    CROSS JOIN LATERAL (
        SELECT trim_scale(counted.quote_volume) / nullif(trim_scale(counted.volume), 0) AS vwap,
               trim_scale(counted.taker_buy_volume) / nullif(trim_scale(counted.volume), 0) AS taker_buy_share
    ) AS share
    CROSS JOIN LATERAL (
        SELECT sqrt((counted.record_count * trim_scale(counted.price_square_sum)
                     - trim_scale(counted.price_sum) * trim_scale(counted.price_sum))
                    / nullif(counted.record_count * (counted.record_count - 1), 0)) AS price_stddev
    ) AS spread
), compared AS (
    SELECT held.exchange, held.symbol, held.window_start, held.window_end, held.complete,
           NOT %(whole)s AND EXISTS (
               SELECT FROM late_minutes AS late
               WHERE late.exchange = held.exchange AND late.symbol = held.symbol AND late.channel = held.channel
                 AND late.minute < held.window_end
                 AND late.minute >= date_trunc('minute', held.window_start - 5 * held.length)
           ) AS waits,
           CASE WHEN NOT must.is_there THEN 'no such record is stored' ELSE differences.found END AS found
    FROM held
    JOIN figured AS must USING (exchange, symbol, window_start, window_end)
    CROSS JOIN LATERAL (
        SELECT
               coalesce(bool_or(kind = 'volatility'), false) AS volatility_alert,
               coalesce(bool_or(kind = 'volume_spike'), false) AS volume_spike_alert
        FROM alerts
        WHERE alerts.symbol = held.symbol AND alerts.window_start = held.window_start
          AND alerts.window_end = held.window_end AND alerts.exchange = held.exchange AND alerts.withdrawn_at IS NULL
    ) AS open
    CROSS JOIN LATERAL (
        SELECT string_agg(
            format('%%s is %%s and must be %%s', name, coalesce(is_now::text, 'null'),
                   coalesce(must_be::text, 'null')), ', '
        ) AS found
        FROM (VALUES
            ('record_count', to_jsonb(held.record_count), to_jsonb(must.record_count)),
            ('trade_count', to_jsonb(held.trade_count), to_jsonb(must.trade_count)),
            ('first_id', to_jsonb(held.first_id), to_jsonb(must.first_id)),
            ('last_id', to_jsonb(held.last_id), to_jsonb(must.last_id)),
            ('open', to_jsonb(held.open), to_jsonb(must.open)),
            ('high', to_jsonb(held.high), to_jsonb(must.high)),
            ('low', to_jsonb(held.low), to_jsonb(must.low)),
            ('close', to_jsonb(held.close), to_jsonb(must.close)),
            ('volume', to_jsonb(held.volume), to_jsonb(must.volume)),
            ('quote_volume', to_jsonb(held.quote_volume), to_jsonb(must.quote_volume)),
            ('taker_buy_volume', to_jsonb(held.taker_buy_volume), to_jsonb(must.taker_buy_volume)),
            ('price_sum', to_jsonb(held.price_sum), to_jsonb(must.price_sum)),
            ('price_square_sum', to_jsonb(held.price_square_sum), to_jsonb(must.price_square_sum)),
            ('vwap', to_jsonb(held.vwap), to_jsonb(must.vwap)),
            ('price_stddev', to_jsonb(held.price_stddev), to_jsonb(must.price_stddev)),
            ('volatility', to_jsonb(held.volatility), to_jsonb(must.volatility)),
            ('taker_buy_share', to_jsonb(held.taker_buy_share), to_jsonb(must.taker_buy_share)),
            ('volume_baseline', to_jsonb(held.volume_baseline), to_jsonb(must.volume_baseline)),
            ('volatility_alert', to_jsonb(held.volatility_alert), to_jsonb(must.volatility_alert)),
            ('volume_spike', to_jsonb(held.volume_spike), to_jsonb(must.volume_spike)),
            ('open alert of volatility', to_jsonb(open.volatility_alert), to_jsonb(must.volatility_alert)),
            ('open alert of volume_spike', to_jsonb(open.volume_spike_alert), to_jsonb(must.volume_spike)),
            ('complete', to_jsonb(held.complete), to_jsonb(
                CASE WHEN held.complete AND held.length >= interval '1 minute'
                THEN must.last_id - must.first_id + 1 = must.record_count ELSE held.complete END
            ))
        ) AS figure (name, is_now, must_be)
        WHERE is_now IS DISTINCT FROM must_be
    ) AS differences
    UNION ALL
    SELECT counted.exchange, counted.symbol, counted.window_start, counted.window_start + counted.length, false, false,
           'it is not there'
    FROM counted
    JOIN promised USING (exchange, symbol, channel, length)
    LEFT JOIN trade_metrics AS present ON present.symbol = counted.symbol AND present.exchange = counted.exchange
        AND present.window_start = counted.window_start
        AND present.window_end = counted.window_start + counted.length
    WHERE present.symbol IS NULL
      AND counted.window_start >= promised.since AND counted.window_start + counted.length < promised.until
      AND (%(since)s::timestamptz IS NULL OR counted.window_start >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR counted.window_start + counted.length <= %(until)s)
      AND (%(whole)s OR NOT EXISTS (
          SELECT FROM late_minutes AS late
          WHERE (late.exchange, late.symbol, late.channel) = (counted.exchange, counted.symbol, counted.channel)
            AND late.minute < counted.window_start + counted.length
            AND late.minute >= date_trunc('minute', counted.window_start)
      ))
)
SELECT count(*), count(*) FILTER (WHERE found IS NULL AND NOT waits), count(*) FILTER (WHERE complete),
       count(*) FILTER (WHERE waits),
       coalesce(array_agg(
           format('%%s (%%s), %%s to %%s: %%s', symbol, exchange,
                  to_char(window_start, 'YYYY-MM-DD HH24:MI:SS'), to_char(window_end, 'HH24:MI:SS'), found)
           ORDER BY exchange, symbol, window_start
       ) FILTER (WHERE found IS NOT NULL AND NOT waits), '{}')
FROM compared;
