-- Where rows wait that may be stored already; emptied at every commit.
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_trades (LIKE trades) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS incoming_book_ticker (LIKE book_ticker) ON COMMIT DELETE ROWS;
