-- What the ledger says of each stream and minute.
SELECT exchange, symbol, channel, (extract(epoch FROM minute) * 1000000)::bigint, stored, repaired, first_id, last_id
FROM ledger
WHERE (%(since)s::timestamptz IS NULL OR minute >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR minute < %(until)s)
  AND (%(symbols)s::text[] IS NULL OR symbol = ANY (%(symbols)s))
  AND (%(channels)s::text[] IS NULL OR channel = ANY (%(channels)s))
ORDER BY 1, 2, 3, 4;
