-- Whether this server can have TimescaleDB: installed in this database, or there to be installed.
SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb');
