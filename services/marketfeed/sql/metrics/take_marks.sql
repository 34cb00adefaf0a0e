-- Take marks of minutes that are settled, and hold them: whoever stores another record there waits, and marks it again.
-- What is locked is under way and comes the next time; what was committed until now is seen by the statements after
-- this one.
INSERT INTO metrics_marks
SELECT symbol, minute
FROM late_minutes
WHERE exchange = %(exchange)s AND channel = %(channel)s
  AND date_bin(%(group)s, minute, TIMESTAMPTZ 'epoch') + %(group)s <= %(settled)s::timestamptz
ORDER BY minute, symbol
LIMIT %(most_marks)s
FOR UPDATE SKIP LOCKED;
