-- The symbols of the chosen exchanges, found by jumping from one to the next in the ledger's primary key.
WITH RECURSIVE found AS (
    (SELECT exchange, symbol FROM ledger ORDER BY exchange, symbol LIMIT 1)
    UNION ALL
    SELECT following.*
    FROM found, LATERAL (
        SELECT exchange, symbol FROM ledger WHERE (exchange, symbol) > (found.exchange, found.symbol)
        ORDER BY exchange, symbol LIMIT 1
    ) AS following
)
SELECT DISTINCT symbol FROM found WHERE exchange = ANY (ARRAY[$exchange]::text[]) ORDER BY 1;
