#!/bin/sh
# Waits for the database (PGHOST, PGUSER, PGPASSWORD, PGDATABASE) and makes the role that dashboards read with.
set -eu

tries=60
until pg_isready -q; do
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ]; then
        echo "PostgreSQL at $PGHOST did not answer within two minutes" >&2
        exit 1
    fi
    sleep 2
done

# The password goes by standard input: arguments can be read by others.
{
    printf '\\set reader_password %s\n\\set database %s\n' "$READER_PASSWORD" "$PGDATABASE"
    cat "${SQL:-/etc/reader/reader.sql}"
} | psql -X -q -v ON_ERROR_STOP=1
