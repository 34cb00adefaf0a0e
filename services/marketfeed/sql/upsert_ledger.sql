-- Count what a batch added. Minutes that were over long before are marked, where their metrics may have been compared
-- with the ledger already: in this transaction, and always by an update, which waits for whoever is comparing them now.
WITH added AS (
    SELECT exchange COLLATE "C" AS exchange, symbol COLLATE "C" AS symbol, channel COLLATE "C" AS channel,
           to_timestamp(minute_s) AS minute, stored, repaired, first_id, last_id, grade
    FROM unnest(
        %(exchange)s::text[], %(symbol)s::text[], %(channel)s::text[], %(minute_s)s::bigint[], %(stored)s::bigint[],
        %(repaired)s::bigint[], %(first_id)s::bigint[], %(last_id)s::bigint[], %(grade)s::text[]
    ) AS added (exchange, symbol, channel, minute_s, stored, repaired, first_id, last_id, grade)
), late AS (
    INSERT INTO late_minutes (exchange, symbol, channel, minute)
    SELECT exchange, symbol, channel, minute
    FROM added
    WHERE minute < now() - interval '2 minutes'
      AND EXISTS (
          SELECT FROM metrics_checked AS checked
          WHERE (checked.exchange, checked.channel, checked.symbol) = (added.exchange, added.channel, added.symbol)
      )
    ORDER BY exchange, symbol, channel, minute
    ON CONFLICT (exchange, symbol, channel, minute) DO UPDATE SET marked_at = now()
)
INSERT INTO ledger AS held (exchange, symbol, channel, minute, stored, repaired, first_id, last_id, grade)
SELECT exchange, symbol, channel, minute, stored, repaired, first_id, last_id, grade FROM added
ON CONFLICT (exchange, symbol, channel, minute) DO UPDATE SET
    stored = held.stored + excluded.stored,
    repaired = held.repaired + excluded.repaired,
    first_id = least(held.first_id, excluded.first_id),
    last_id = greatest(held.last_id, excluded.last_id),
    grade = excluded.grade;
