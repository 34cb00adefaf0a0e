-- Prints that the ledger knows to be absent: of each stream whose ids are contiguous, the ids between first and last
-- that no minute counts. Quick, for a live picture; the proof reads the records themselves.
SELECT coalesce(sum(greatest(absent, 0)), 0)::bigint
FROM (
    SELECT max(last_id) - min(first_id) + 1 - sum(stored) AS absent
    FROM ledger
    WHERE grade = 'proven'
    GROUP BY exchange, symbol, channel
) AS streams
