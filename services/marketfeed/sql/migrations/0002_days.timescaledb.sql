-- Hypertables: TimescaleDB makes the one-day chunks itself, so there is nothing to make ready for a day.

SELECT create_hypertable('trades', 'event_time', chunk_time_interval => INTERVAL '1 day', create_default_indexes => FALSE);
SELECT create_hypertable('book_ticker', 'event_time', chunk_time_interval => INTERVAL '1 day', create_default_indexes => FALSE);

CREATE FUNCTION marketfeed_ensure_day(parent text, day date) RETURNS void LANGUAGE sql AS 'SELECT';
