-- Mark minutes that were over long before, where their metrics may have been compared with the ledger already: in the
-- transaction that stores, and always by an update, which waits for whoever is comparing them now.
INSERT INTO late_minutes (exchange, symbol, channel, minute)
SELECT exchange, symbol, channel, to_timestamp(minute_s)
FROM unnest(%(exchange)s::text[], %(symbol)s::text[], %(channel)s::text[], %(minute_s)s::bigint[])
     AS added (exchange, symbol, channel, minute_s)
WHERE to_timestamp(minute_s) < now() - interval '2 minutes'
  AND EXISTS (
      SELECT FROM metrics_checked AS checked
      WHERE (checked.exchange, checked.channel, checked.symbol) = (added.exchange, added.channel, added.symbol)
  )
ORDER BY exchange COLLATE "C", symbol COLLATE "C", channel COLLATE "C", minute_s
ON CONFLICT (exchange, symbol, channel, minute) DO UPDATE SET marked_at = now();
