#!/bin/bash
# Starts a single CockroachDB node with TLS and makes the database and its user once it answers.
# Keeps certificates (its own authority's) and data in DATA; passes a stop on to the server and ends with its code.
set -euo pipefail

certificates="$DATA/certificates"
cd "$DATA"

if [[ ! -f "$certificates/node.key" ]]; then
    rm -rf "$certificates"
    mkdir -m 700 "$certificates"
    authority=(--certs-dir="$certificates" --ca-key="$certificates/ca.key")
    cockroach cert create-ca "${authority[@]}"
    cockroach cert create-client root "${authority[@]}"
    # Last: it tells that all are there.
    cockroach cert create-node localhost 127.0.0.1 cockroachdb "cockroachdb.$NAMESPACE" "cockroachdb.$NAMESPACE.svc" "${authority[@]}"
fi

cockroach start-single-node --certs-dir="$certificates" --store="$DATA/store" --listen-addr=0.0.0.0:26257 \
    --advertise-addr=localhost:26257 --http-addr=0.0.0.0:8080 --cache=128MiB --max-sql-memory=128MiB \
    --logtostderr=INFO &
server=$!
trap 'kill -TERM "$server"' TERM INT

# The password goes by standard input: arguments can be read by others.
make_user() {
    cockroach sql --certs-dir="$certificates" --host=localhost >/dev/null <<SQL
CREATE DATABASE IF NOT EXISTS $DATABASE;
CREATE USER IF NOT EXISTS $USERNAME;
ALTER USER $USERNAME WITH PASSWORD '$PASSWORD';
ALTER DATABASE $DATABASE OWNER TO $USERNAME;
SQL
}

for _ in {1..60}; do
    kill -0 "$server" 2>/dev/null || break
    if make_user; then
        touch "${READY:-/tmp/ready}"
        break
    fi
    sleep 2
done

code=0
wait "$server" || code=$?
if kill -0 "$server" 2>/dev/null; then # a signal ended the first wait
    code=0
    wait "$server" || code=$?
fi
exit "$code"
