-- Windows of trade_metrics that ended before a moment and are not what the stored trades make, or are missing, or too many.
-- Written without a look at how the job or `marketfeed verify` compute them.
WITH wanted AS (
    SELECT symbol, date_bin(%(length)s::interval, event_time, 'epoch') AS began,
           count(*) AS records, min(trade_id) AS first_id, max(trade_id) AS last_id,
           (array_agg(price ORDER BY trade_id))[1] AS open, (array_agg(price ORDER BY trade_id DESC))[1] AS close,
           max(price) AS high, min(price) AS low, sum(quantity) AS volume, sum(price * quantity) AS quote_volume,
           sum(CASE side WHEN 'buy' THEN quantity ELSE 0 END) AS bought, sum(price) AS price_sum,
           sum(price * price) AS price_square_sum
    FROM trades WHERE channel = 'trade' GROUP BY 1, 2
), held AS (
    SELECT symbol, window_start AS began, record_count, first_id, last_id, open, close, high, low, volume, quote_volume,
           taker_buy_volume, price_sum, price_square_sum
    FROM trade_metrics
), different AS (
    (TABLE wanted EXCEPT ALL TABLE held) UNION ALL (TABLE held EXCEPT ALL TABLE wanted)
)
SELECT DISTINCT symbol, began FROM different WHERE began + %(length)s::interval <= %(before)s ORDER BY began, symbol
