#!/bin/sh
# Starts nats-server, unless its data belong to another layout. A server on data of another layout
# does not see the streams in them, and the services would create new, empty ones.
#
#   start.sh                 start the server in the layout LAYOUT: `single`, `cluster-accounts`, or
#                            `cluster`, in which all NATS users share one account (docs/deploy.md)
#   start.sh which           print the layout of the data; nothing if there are none
#   start.sh set-aside NAME  move the data into the directory NAME, and mark the move as incomplete
#   start.sh settle LAYOUT   mark the data as complete, with this layout
#   start.sh leave           remove the mark, on a server that the new layout does not have
#   start.sh one-account     convert the data for a version in which all users share one account
#
# docs/deploy.md describes how to change the layout.
set -eu
data=${DATA:-/data}
marker=$data/layout
shared="$data/jetstream/\$G"
own="$data/jetstream/HOGSEND"
moving='a move that has not ended'

layout_of_data() {
  if [ -f "$marker" ]; then
    cat "$marker"
  elif [ -d "$data/jetstream/\$SYS/_js_/_meta_" ]; then
    # Of a version without marks. Only the servers of a cluster have this directory.
    echo cluster
  elif [ -d "$data/jetstream" ]; then
    echo single
  fi
}

settle() {
  echo "$1" > "$marker.new"
  mv "$marker.new" "$marker"
}

refuse() {
  echo "hogsend: $1" >&2
  echo "hogsend: fix: $2" >&2
  # Slows down the restarts of the container, which all fail until an operator acts.
  sleep "${REFUSED_SECONDS:-5}"
  exit 78
}

# rename FROM TO: move the streams of one account to another one, while the server does not run.
rename() {
  [ -d "$1" ] || return 0
  [ ! -e "$2" ] || refuse \
    "there are streams of two accounts in $data/jetstream: $(basename "$1") and $(basename "$2")" \
    "see which has what you need, and move the other directory out of $data/jetstream"
  mv "$1" "$2"
}

case "${1:-start}" in
which)
  layout_of_data
  exit 0
  ;;
set-aside)
  # A continued move repeats this step. The data are set aside already, with their own mark.
  [ "$(layout_of_data)" != "$moving" ] || exit 0
  mkdir -p "$data/$2"
  for kept in jetstream layout; do
    [ ! -e "$data/$kept" ] || mv "$data/$kept" "$data/$2/"
  done
  echo "$moving" > "$marker"
  exit 0
  ;;
leave)
  rm -f "$marker"
  exit 0
  ;;
settle)
  settle "$2"
  exit 0
  ;;
one-account)
  [ "$(layout_of_data)" = single-accounts ] || refuse \
    "only the streams of a single server can be converted" \
    "restore the backup that was made before the upgrade: docs/deploy.md"
  rename "$own" "$shared"
  settle single
  exit 0
  ;;
esac

layout=${LAYOUT:-cluster-accounts}
port=${CLIENT_PORT:-4222}
found=$(layout_of_data)
# The mark keeps a version in which all users share one account from starting on these data, since
# it would not see the streams.
mark=$layout
[ "$layout" != single ] || mark=single-accounts

if [ "$layout" = single ] && [ "${SERVER_NAME#nats-}" != "$SERVER_NAME" ]; then
  refuse "$SERVER_NAME is a server of the layout cluster, but the layout is single" \
    "run hogsend compose layout cluster"
fi
if [ "$layout" = single ] && [ "$found" = single ]; then
  rename "$shared" "$own"
  found=
fi
if [ "$found" = "$moving" ]; then
  # The move itself starts the server on another port, where services do not connect.
  [ "$port" != 4222 ] || refuse \
    "a move of the streams to another layout is incomplete, and not all are here" \
    "run the same hogsend compose layout again: it continues the move"
elif [ "$found" = cluster ] && [ "$layout" = cluster-accounts ]; then
  refuse "the streams of $SERVER_NAME are in the account that all NATS users share" \
    "see \"From one account to several\" in docs/deploy.md; until then start it with LAYOUT=cluster"
elif [ -n "$found" ] && [ "$found" != "$mark" ]; then
  was=${found%-accounts} is=${layout%-accounts}
  refuse "the data of $SERVER_NAME are of the layout $found, but its configuration is $layout" \
    "to keep $was run hogsend compose layout $was; to move the streams run hogsend compose layout $is"
elif [ "$(cat "$marker" 2>/dev/null)" != "$mark" ]; then
  # Written only when it changes: on a full disk the write fails, and the server must start anyway.
  settle "$mark"
fi
if [ "$layout" = cluster ]; then
  echo "hogsend: all NATS users share one account: the user in subscriber.env can empty streams" >&2
  echo "hogsend: fix: run hogsend compose layout cluster" >&2
fi
exec nats-server --config "${CONFIG:-/etc/nats/$layout.conf}" --port "$port"
