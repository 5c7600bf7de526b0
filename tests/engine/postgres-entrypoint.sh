#!/bin/sh
# The features of the official image's entrypoint that compose.yaml, the Kubernetes manifests and
# tests/containers.py use.
set -eu
as_postgres() {
  if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi
}
mkdir -p "$PGDATA" /var/run/postgresql
if [ "$(id -u)" = 0 ]; then
  chown -R postgres:postgres /var/lib/postgresql /var/run/postgresql
  chmod 700 "$PGDATA"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  umask 077
  words=$(mktemp)
  if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
    cat "$POSTGRES_PASSWORD_FILE" > "$words"
  else
    printf '%s\n' "$POSTGRES_PASSWORD" > "$words"
  fi
  [ "$(id -u)" != 0 ] || chown postgres "$words"
  as_postgres initdb -D "$PGDATA" -U postgres --pwfile="$words" --auth-local=trust \
    --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
  rm -f "$words"
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  as_postgres pg_ctl -D "$PGDATA" -o "-c listen_addresses= -k /var/run/postgresql" -w start
  as_postgres createdb -h /var/run/postgresql -U postgres "$POSTGRES_DB"
  for script in /docker-entrypoint-initdb.d/*.sql; do
    [ -e "$script" ] || continue
    as_postgres psql -h /var/run/postgresql -v ON_ERROR_STOP=1 -U postgres -d "$POSTGRES_DB" -f "$script"
  done
  as_postgres pg_ctl -D "$PGDATA" -m fast -w stop
fi
if [ "$(id -u)" = 0 ]; then
  exec setpriv --reuid=postgres --regid=postgres --clear-groups \
    "$@" -D "$PGDATA" -c listen_addresses='*' -k /var/run/postgresql,/tmp
fi
exec "$@" -D "$PGDATA" -c listen_addresses='*' -k /var/run/postgresql,/tmp
