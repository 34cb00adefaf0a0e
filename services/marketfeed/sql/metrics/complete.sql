-- Say of each compared group, and of its neighbours in the ledger, whether its windows are complete: they count what
-- the ledger counts, no id is left out in there, and none between it and the minutes before and after it.
WITH around AS (
    SELECT symbol, starts FROM metrics_groups
    UNION
    SELECT groups.symbol, date_bin(%(group)s, before.minute, TIMESTAMPTZ 'epoch')
    FROM metrics_groups AS groups, LATERAL (
        SELECT minute FROM ledger
        WHERE exchange = %(exchange)s AND ledger.symbol = groups.symbol AND channel = %(channel)s
          AND minute < groups.starts
        ORDER BY minute DESC LIMIT 1
    ) AS before
    UNION
    SELECT groups.symbol, date_bin(%(group)s, following.minute, TIMESTAMPTZ 'epoch')
    FROM metrics_groups AS groups, LATERAL (
        SELECT minute FROM ledger
        WHERE exchange = %(exchange)s AND ledger.symbol = groups.symbol AND channel = %(channel)s
          AND minute >= groups.starts + %(group)s
        ORDER BY minute LIMIT 1
    ) AS following
), judged AS (
    SELECT around.*,
           CASE WHEN noted.proven THEN coalesce(
               noted.stored = held.count
               AND noted.stored = noted.last_id - noted.first_id + 1
               AND before.last_id + 1 = noted.first_id
               AND following.first_id - 1 = noted.last_id,
               false
           ) END AS complete
    FROM around
    CROSS JOIN LATERAL (
        SELECT sum(stored) AS stored, min(first_id) AS first_id, max(last_id) AS last_id,
               bool_and(grade = 'proven') AS proven
        FROM ledger
        WHERE exchange = %(exchange)s AND ledger.symbol = around.symbol AND channel = %(channel)s
          AND minute >= around.starts AND minute < around.starts + %(group)s
    ) AS noted
    CROSS JOIN LATERAL (
        SELECT sum({count}) AS count
        FROM {metrics} AS held
        WHERE held.symbol = around.symbol AND held.exchange = %(exchange)s
          AND held.window_start >= around.starts AND held.window_start < around.starts + %(group)s
          AND held.window_end = held.window_start + %(length)s
    ) AS held
    LEFT JOIN LATERAL (
        SELECT last_id FROM ledger
        WHERE exchange = %(exchange)s AND ledger.symbol = around.symbol AND channel = %(channel)s
          AND minute < around.starts
        ORDER BY minute DESC LIMIT 1
    ) AS before ON true
    LEFT JOIN LATERAL (
        SELECT first_id FROM ledger
        WHERE exchange = %(exchange)s AND ledger.symbol = around.symbol AND channel = %(channel)s
          AND minute >= around.starts + %(group)s
        ORDER BY minute LIMIT 1
    ) AS following ON true
)
UPDATE {metrics} AS held SET complete = judged.complete
FROM judged
WHERE held.symbol = judged.symbol AND held.exchange = %(exchange)s
  AND held.window_start >= judged.starts AND held.window_start < judged.starts + %(group)s
  AND held.window_end = held.window_start + %(length)s
  AND held.complete IS DISTINCT FROM judged.complete;
