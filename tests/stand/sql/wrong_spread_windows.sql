-- The same of spread_metrics, from the stored quotes.
WITH wanted AS (
    SELECT symbol, date_bin(%(length)s::interval, event_time, 'epoch') AS began,
           count(*) AS updates, min(update_id) AS first_id, max(update_id) AS last_id,
           sum(ask_price - bid_price) AS spread_sum, min(ask_price - bid_price) AS least,
           max(ask_price - bid_price) AS most
    FROM book_ticker GROUP BY 1, 2
), held AS (
    SELECT symbol, window_start AS began, quote_updates, first_id, last_id, spread_sum, min_spread, max_spread
    FROM spread_metrics
), different AS (
    (TABLE wanted EXCEPT ALL TABLE held) UNION ALL (TABLE held EXCEPT ALL TABLE wanted)
)
SELECT DISTINCT symbol, began FROM different WHERE began + %(length)s::interval <= %(before)s ORDER BY began, symbol
