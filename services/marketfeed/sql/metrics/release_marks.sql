-- The marks that were looked after; those that wait for the next pass stay.
DELETE FROM late_minutes AS held
USING metrics_marks AS mark
WHERE held.exchange = %(exchange)s AND held.channel = %(channel)s
  AND held.symbol = mark.symbol AND held.minute = mark.minute
  AND NOT EXISTS (
      SELECT FROM metrics_groups AS groups
      WHERE groups.symbol = mark.symbol AND groups.starts = date_bin(%(group)s, mark.minute, TIMESTAMPTZ 'epoch')
        AND groups.differs AND NOT groups.chosen
  );
