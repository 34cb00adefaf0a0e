-- The newest update stored per symbol in a stretch of time, from the ledger: a few rows instead of a scan.
SELECT exchange, symbol, max(last_id)
FROM ledger
JOIN unnest(%(exchange)s::text[], %(symbol)s::text[]) AS wanted (exchange, symbol) USING (exchange, symbol)
WHERE channel = 'bookTicker' AND minute BETWEEN to_timestamp(%(from_s)s) AND to_timestamp(%(until_s)s)
GROUP BY exchange, symbol;
