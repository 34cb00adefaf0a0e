-- Compute every window of spread_metrics from the stored records, flags included, and compare. Returns one row: how
-- many windows were looked at, how many of them are equal, complete, or waiting to be corrected, and what is different
-- about the others. Unless the whole is asked for, only windows that ended two minutes ago count, and those whose
-- minutes wait to be corrected do not.
WITH held AS (
    SELECT *, window_end - window_start AS length, 'bookTicker'::text AS channel
    FROM spread_metrics
    WHERE (%(since)s::timestamptz IS NULL OR window_start >= %(since)s)
      AND (%(until)s::timestamptz IS NULL OR window_end <= %(until)s)
      AND (%(symbols)s::text[] IS NULL OR symbol = ANY (%(symbols)s))
      AND (%(channels)s::text[] IS NULL OR 'bookTicker' = ANY (%(channels)s))
      AND (%(whole)s OR window_end < now() - interval '2 minutes')
), lengths AS (
    SELECT exchange, channel, window_length AS length, max(through) AS through
    FROM metrics_checked
    WHERE channel = 'bookTicker'
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
    SELECT exchange, symbol, 'bookTicker'::text AS channel, length,
           date_bin(length, event_time, TIMESTAMPTZ 'epoch') AS window_start,
           count(*) AS quote_updates, min(update_id) AS first_id, max(update_id) AS last_id,
           sum(ask_price) - sum(bid_price) AS spread_sum,
           min(ask_price - bid_price) AS min_spread, max(ask_price - bid_price) AS max_spread,
           sum(bps) AS spread_bps_sum, min(bps) AS min_spread_bps, max(bps) AS max_spread_bps
    FROM book_ticker
    JOIN kinds USING (exchange)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN ask_price + bid_price = 0 THEN 0
               ELSE div(20000 * (ask_price - bid_price) * 100000000, ask_price + bid_price) * 0.00000001 END AS bps
    ) AS quote
    WHERE (%(since)s::timestamptz IS NULL OR event_time >= %(since)s::timestamptz - 5 * length)
      AND (%(until)s::timestamptz IS NULL OR event_time < %(until)s)
      AND (%(symbols)s::text[] IS NULL OR symbol = ANY (%(symbols)s))
    GROUP BY exchange, symbol, length, date_bin(length, event_time, TIMESTAMPTZ 'epoch')
), figured AS (
    SELECT held.exchange, held.symbol, held.channel, held.window_start, held.window_end,
           counted.window_start IS NOT NULL AS is_there,
           counted.quote_updates,
           counted.first_id,
           counted.last_id,
           counted.spread_sum,
           counted.min_spread,
           counted.max_spread,
           counted.spread_bps_sum,
           counted.min_spread_bps,
           counted.max_spread_bps,
           average.avg_spread, average.avg_spread_bps,
           coalesce(
               counted.min_spread > 0 AND average.avg_spread > held.spread_threshold * counted.min_spread, false
           ) AS spread_warning
    FROM held
    LEFT JOIN counted USING (exchange, symbol, channel, length, window_start)
    CROSS JOIN LATERAL (
        SELECT trim_scale(counted.spread_sum) / nullif(counted.quote_updates, 0) AS avg_spread,
               trim_scale(counted.spread_bps_sum) / nullif(counted.quote_updates, 0) AS avg_spread_bps
    ) AS average
), compared AS (
    SELECT held.exchange, held.symbol, held.window_start, held.window_end, held.complete,
           NOT %(whole)s AND EXISTS (
               SELECT FROM late_minutes AS late
               WHERE late.exchange = held.exchange AND late.symbol = held.symbol AND late.channel = held.channel
                 AND late.minute < held.window_end
                 AND late.minute >= date_trunc('minute', held.window_start - interval '0')
           ) AS waits,
           CASE WHEN NOT must.is_there THEN 'no such record is stored' ELSE differences.found END AS found
    FROM held
    JOIN figured AS must USING (exchange, symbol, window_start, window_end)
    CROSS JOIN LATERAL (
        SELECT
               coalesce(bool_or(kind = 'spread'), false) AS spread_alert
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
            ('quote_updates', to_jsonb(held.quote_updates), to_jsonb(must.quote_updates)),
            ('first_id', to_jsonb(held.first_id), to_jsonb(must.first_id)),
            ('last_id', to_jsonb(held.last_id), to_jsonb(must.last_id)),
            ('spread_sum', to_jsonb(held.spread_sum), to_jsonb(must.spread_sum)),
            ('min_spread', to_jsonb(held.min_spread), to_jsonb(must.min_spread)),
            ('max_spread', to_jsonb(held.max_spread), to_jsonb(must.max_spread)),
            ('spread_bps_sum', to_jsonb(held.spread_bps_sum), to_jsonb(must.spread_bps_sum)),
            ('min_spread_bps', to_jsonb(held.min_spread_bps), to_jsonb(must.min_spread_bps)),
            ('max_spread_bps', to_jsonb(held.max_spread_bps), to_jsonb(must.max_spread_bps)),
            ('avg_spread', to_jsonb(held.avg_spread), to_jsonb(must.avg_spread)),
            ('avg_spread_bps', to_jsonb(held.avg_spread_bps), to_jsonb(must.avg_spread_bps)),
            ('spread_warning', to_jsonb(held.spread_warning), to_jsonb(must.spread_warning)),
            ('open alert of spread', to_jsonb(open.spread_alert), to_jsonb(must.spread_warning))
        ) AS figure (name, is_now, must_be)
        WHERE is_now IS DISTINCT FROM must_be
    ) AS differences
    UNION ALL
    SELECT counted.exchange, counted.symbol, counted.window_start, counted.window_start + counted.length, false, false,
           'it is not there'
    FROM counted
    JOIN promised USING (exchange, symbol, channel, length)
    LEFT JOIN spread_metrics AS present ON present.symbol = counted.symbol AND present.exchange = counted.exchange
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
