#!/bin/sh
# Starts nats-server, unless its data belong to another layout of servers. A server that starts on
# data of another layout does not see their streams: it would take the next webhook into new ones.
#
#   start.sh                 start the server that LAYOUT says: `single`, `cluster-accounts`, or
#                            `cluster`, whose users share one account (docs/deploy.md)
#   start.sh which           print the layout of the data here, nothing without data
#   start.sh set-aside NAME  move the data into NAME, and wait for those that replace them
#   start.sh settle LAYOUT   say that the data are complete, and of this layout
#   start.sh leave           say that nothing replaces what was set aside: there are fewer servers
#   start.sh one-account     give the data back to a version whose users share one account
#
# docs/deploy.md has the way from one layout to the other.
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
    # Of a version that left no mark: only servers of a cluster agree on who has what.
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
  # Not at once again: it is restarted for ever, and nothing changes until an operator acts.
  sleep "${REFUSED_SECONDS:-5}"
  exit 78
}

# rename FROM TO: give the streams of one account to another one, while no server runs.
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
  # Again, by a move that goes on: what was set aside keeps its own mark.
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
    "only the streams of a single server can be given back so" \
    "restore the backup that was made before the upgrade: docs/deploy.md"
  rename "$own" "$shared"
  settle single
  exit 0
  ;;
esac

layout=${LAYOUT:-cluster-accounts}
port=${CLIENT_PORT:-4222}
found=$(layout_of_data)
# A version whose users share one account would not see the streams, so it must not start on them.
mark=$layout
[ "$layout" != single ] || mark=single-accounts

if [ "$layout" = single ] && [ "${SERVER_NAME#nats-}" != "$SERVER_NAME" ]; then
  refuse "$SERVER_NAME is a server of the layout cluster, and the layout here is single" \
    "hogsend compose layout cluster"
fi
if [ "$layout" = single ] && [ "$found" = single ]; then
  rename "$shared" "$own"
  found=
fi
if [ "$found" = "$moving" ]; then
  # Only for the move itself: services find no server at the usual port.
  [ "$port" != 4222 ] || refuse \
    "the streams are on their way to another layout, and not all are here" \
    "run the same hogsend compose layout again: it goes on where it stopped"
elif [ "$found" = cluster ] && [ "$layout" = cluster-accounts ]; then
  refuse "the streams of $SERVER_NAME are in the account that all users share" \
    "see \"From one account to several\" in docs/deploy.md; until then start it as cluster"
elif [ -n "$found" ] && [ "$found" != "$mark" ]; then
  was=${found%-accounts} is=${layout%-accounts}
  refuse "the data of $SERVER_NAME are of the layout $found, and it was told to start as $layout" \
    "keep $was: hogsend compose layout $was; or move the streams: hogsend compose layout $is"
elif [ "$(cat "$marker" 2>/dev/null)" != "$mark" ]; then
  # Not anew at each start: a full disk would keep the server away from what needs no disk, too.
  settle "$mark"
fi
if [ "$layout" = cluster ]; then
  echo "hogsend: users share one account: who holds subscriber.env can empty streams" >&2
  echo "hogsend: fix: hogsend compose layout cluster" >&2
fi
exec nats-server --config "${CONFIG:-/etc/nats/$layout.conf}" --port "$port"
