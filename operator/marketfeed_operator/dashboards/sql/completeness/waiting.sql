-- Minutes whose windows wait to be compared with the ledger again, and how long the oldest has waited.
SELECT count(*) AS "late minutes waiting",
       coalesce(extract(epoch FROM now() - min(marked_at)), 0) AS "oldest, s"
FROM late_minutes
WHERE exchange = ANY (ARRAY[$exchange]::text[]) AND symbol = ANY (ARRAY[$symbol]::text[]);
