#!/bin/bash
# The part of the upstream entrypoint that docker-compose.yml and the chart use: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, further
# `postgres -c name=value` arguments; as root it only makes the folders postgres's own, then steps down and starts over.
set -euo pipefail
if [ "$1" != postgres ]; then exec "$@"; fi
mkdir -p "$PGDATA"
if [ "$(id -u)" = 0 ]; then
  chown postgres:postgres "$PGDATA" /var/run/postgresql
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

chmod 700 "$PGDATA"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  : "${POSTGRES_PASSWORD:?is not set, and the database is not initialised}"
  initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") -E UTF8 >/dev/null
  printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  # Without TCP: a health check must not pass before the database is there.
  pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" -l /dev/null start >/dev/null
  psql -U "$POSTGRES_USER" -d postgres -qc "create database \"$POSTGRES_DB\""
  pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
fi
exec "$@" -c listen_addresses='*'
