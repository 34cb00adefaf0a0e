-- Compare windows with the ledger by groups: as many as fill a minute, or one of several minutes. {metrics} and {count}
-- stand for the table and the number of its records. A group differs when the consumer has passed it and any figure is
-- another; before that, when the window lacks records.
WITH wanted AS (
    SELECT symbol, date_bin(%(group)s, minute, TIMESTAMPTZ 'epoch') AS starts
    FROM (
        SELECT streams.symbol, ledger.minute
        FROM metrics_streams AS streams
        JOIN ledger ON ledger.exchange = %(exchange)s AND ledger.symbol = streams.symbol
            AND ledger.channel = %(channel)s AND ledger.minute >= streams.through AND ledger.minute < streams.until
        UNION ALL
        SELECT streams.symbol, held.window_start
        FROM metrics_streams AS streams
        JOIN {metrics} AS held ON held.symbol = streams.symbol AND held.exchange = %(exchange)s
            AND held.window_start >= streams.through AND held.window_start < streams.until
            AND held.window_end = held.window_start + %(length)s
        UNION ALL
        SELECT symbol, minute FROM metrics_marks
    ) AS minutes
    GROUP BY 1, 2
), compared AS (
    SELECT wanted.symbol, wanted.starts, noted.stored,
           CASE WHEN %(whole)s OR wanted.starts + %(group)s <= streams.newest
                THEN held.other_channel OR (noted.stored, noted.first_id, noted.last_id)
                     IS DISTINCT FROM (held.count, held.first_id, held.last_id)
                ELSE noted.stored > held.count END AS differs
    FROM wanted
    JOIN metrics_streams AS streams USING (symbol)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(stored), 0)::bigint AS stored, min(first_id) AS first_id, max(last_id) AS last_id
        FROM ledger
        WHERE exchange = %(exchange)s AND ledger.symbol = wanted.symbol AND channel = %(channel)s
          AND minute >= wanted.starts AND minute < wanted.starts + %(group)s
    ) AS noted
    CROSS JOIN LATERAL (
        SELECT coalesce(sum({count}), 0)::bigint AS count, min(first_id) AS first_id, max(last_id) AS last_id,
               coalesce(bool_or({other_channel}), false) AS other_channel
        FROM {metrics} AS held
        WHERE held.symbol = wanted.symbol AND held.exchange = %(exchange)s
          AND held.window_start >= wanted.starts AND held.window_start < wanted.starts + %(group)s
          AND held.window_end = held.window_start + %(length)s
    ) AS held
    WHERE wanted.starts >= streams.since AND wanted.starts + %(group)s <= %(settled)s::timestamptz
)
INSERT INTO metrics_groups
SELECT symbol, starts, stored, differs,
       differs AND row_number() OVER oldest <= %(most_groups)s
           AND sum(stored) OVER oldest - stored < %(most_records)s
FROM compared
WINDOW oldest AS (PARTITION BY differs ORDER BY starts, symbol ROWS UNBOUNDED PRECEDING);
