-- The exchanges of the ledger, found by jumping from one to the next in its primary key.
WITH RECURSIVE found AS (
    (SELECT exchange FROM ledger ORDER BY exchange LIMIT 1)
    UNION ALL
    SELECT following.exchange
    FROM found, LATERAL (
        SELECT exchange FROM ledger WHERE exchange > found.exchange ORDER BY exchange LIMIT 1
    ) AS following
)
SELECT exchange FROM found ORDER BY 1;
