INSERT INTO ledger AS held (exchange, symbol, channel, minute, stored, repaired, first_id, last_id, grade)
SELECT exchange, symbol, channel, to_timestamp(minute_s), stored, repaired, first_id, last_id, grade
FROM unnest(
    %(exchange)s::text[], %(symbol)s::text[], %(channel)s::text[], %(minute_s)s::bigint[], %(stored)s::bigint[],
    %(repaired)s::bigint[], %(first_id)s::bigint[], %(last_id)s::bigint[], %(grade)s::text[]
) AS added (exchange, symbol, channel, minute_s, stored, repaired, first_id, last_id, grade)
ON CONFLICT (exchange, symbol, channel, minute) DO UPDATE SET
    stored = held.stored + excluded.stored,
    repaired = held.repaired + excluded.repaired,
    first_id = least(held.first_id, excluded.first_id),
    last_id = greatest(held.last_id, excluded.last_id),
    grade = excluded.grade
-- Whether the minute was over long before: see mark_late.sql.
RETURNING minute < now() - interval '2 minutes';
