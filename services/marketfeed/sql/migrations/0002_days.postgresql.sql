-- Native partitions, one per UTC day, made when the first row of a day is about to be stored.

CREATE FUNCTION marketfeed_ensure_day(parent text, day date) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    partition text := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
BEGIN
    IF to_regclass(quote_ident(partition)) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Consumers that meet here wait for each other; whoever comes second finds the partition made.
    PERFORM pg_advisory_xact_lock(hashtext('marketfeed_ensure_day'));
    -- A query, because to_regclass answers from a cache that waiting for the lock has not brought up to date.
    IF EXISTS (
        SELECT FROM pg_class WHERE relname = partition AND relnamespace = quote_ident(current_schema())::regnamespace
    ) THEN
        RETURN;
    END IF;
    -- Made apart and then attached: CREATE TABLE ... PARTITION OF would lock readers of the parent out,
    -- and a long report would hold up every writer.
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', partition, parent);
    EXECUTE format(
        'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        parent, partition, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC'
    );
END
$body$;
