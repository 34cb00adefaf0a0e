#!/usr/bin/env bash
# Sets a database up where PGDATA is empty, then becomes the server; other commands are run as they are.
#
# POSTGRES_USER (postgres), POSTGRES_DB (the user's name), POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE (needed for a new
# database), PGDATA: as the usual image has them. Runs as any user but root, and writes to PGDATA, /var/run/postgresql
# and /tmp alone.
set -euo pipefail

if [[ ${1:-} == -* ]]; then
  set -- postgres "$@"
fi
if [[ ${1:-} != postgres ]]; then
  exec "$@"
fi

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}

# PostgreSQL wants a name for its user: one that the image does not know gets one.
name_user() {
  local names
  names=$(mktemp -d)
  echo "postgres:x:$(id -u):$(id -g):postgres:/tmp:/bin/false" > "$names/passwd"
  echo "postgres:x:$(id -g):" > "$names/group"
  export NSS_WRAPPER_PASSWD=$names/passwd NSS_WRAPPER_GROUP=$names/group LD_PRELOAD=libnss_wrapper.so
}

# A data folder that was not finished has no mark, and is made anew.
make_database() {
  local password part=$PGDATA.part
  password=${POSTGRES_PASSWORD:-}
  if [[ -n ${POSTGRES_PASSWORD_FILE:-} ]]; then
    password=$(< "$POSTGRES_PASSWORD_FILE")
  fi
  if [[ -z $password ]]; then
    echo "A new database needs a password: set POSTGRES_PASSWORD_FILE to a file that holds it" >&2
    exit 1
  fi
  rm -rf "$part"
  initdb --pgdata="$part" --username="$user" --pwfile=<(printf '%s\n' "$password") --encoding=UTF8 \
    --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256
  printf '%s\n' "listen_addresses = '*'" >> "$part/postgresql.conf"
  printf '%s\n' 'host all all all scram-sha-256' >> "$part/pg_hba.conf"
  if [[ $database != postgres ]]; then
    printf '%s\n' "CREATE DATABASE \"${database//\"/\"\"}\"" | postgres --single -D "$part" postgres > /dev/null
  fi
  mkdir -p "$(dirname "$PGDATA")"
  if [[ -d $PGDATA ]]; then rmdir "$PGDATA"; fi
  mv "$part" "$PGDATA"
}

if ! getent passwd "$(id -u)" > /dev/null; then
  name_user
fi
if [[ ! -s $PGDATA/PG_VERSION ]]; then
  make_database
fi
exec "$@"
