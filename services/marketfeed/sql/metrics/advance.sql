-- Move on to what the consumer has passed and marks when more comes: not what ended in the last minutes, in which a
-- transaction may still be open that began before there was anything to mark, and not beyond what waits for the next
-- pass.
UPDATE metrics_checked AS checked SET through = reached.through
FROM (
    SELECT symbol, least(
        date_bin(%(group)s, until, TIMESTAMPTZ 'epoch'),
        date_bin(%(group)s, newest, TIMESTAMPTZ 'epoch'),
        date_bin(%(group)s, now() - %(overlap)s, TIMESTAMPTZ 'epoch'),
        (SELECT min(starts) FROM metrics_groups AS groups
         WHERE groups.symbol = streams.symbol AND groups.differs AND NOT groups.chosen)
    ) AS through
    FROM metrics_streams AS streams
    WHERE newest IS NOT NULL
) AS reached
WHERE checked.exchange = %(exchange)s AND checked.channel = %(channel)s AND checked.window_length = %(length)s
  AND checked.symbol = reached.symbol AND reached.through > checked.through
  AND checked.began_at < now() - %(overlap)s;
