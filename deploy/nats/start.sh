#!/bin/sh
# Starts nats-server, unless its data belong to another layout of servers. A server that starts on
# data of another layout does not see their streams: it would take the next webhook into new ones.
#
#   start.sh                 start the server that LAYOUT says, `single` or `cluster`
#   start.sh which           print the layout of the data here, nothing without data
#   start.sh set-aside NAME  move the data into NAME, and wait for those that replace them
#   start.sh settle LAYOUT   say that the data are complete, and of this layout
#   start.sh leave           say that nothing replaces what was set aside: there are fewer servers
#
# docs/deploy.md has the way from one layout to the other.
set -eu
data=${DATA:-/data}
marker=$data/layout
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

refuse() {
  echo "hogsend: $1" >&2
  echo "hogsend: fix: $2" >&2
  # Not at once again: it is restarted for ever, and nothing changes until somebody acts.
  sleep "${REFUSED_SECONDS:-5}"
  exit 78
}

case "${1:-start}" in
which)
  layout_of_data
  exit 0
  ;;
set-aside)
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
  echo "$2" > "$marker.new"
  mv "$marker.new" "$marker"
  exit 0
  ;;
esac

layout=${LAYOUT:-cluster}
port=${CLIENT_PORT:-4222}
found=$(layout_of_data)

if [ "$layout" = single ] && [ "${SERVER_NAME#nats-}" != "$SERVER_NAME" ]; then
  refuse "$SERVER_NAME is a server of the layout cluster, and the layout here is single" \
    "hogsend compose layout cluster"
fi
if [ "$found" = "$moving" ]; then
  # Only for who moves: services find nobody at the port of every day.
  [ "$port" != 4222 ] || refuse \
    "the streams are on their way to another layout, and not all are here" \
    "run the same hogsend compose layout again: it goes on where it stopped"
elif [ -n "$found" ] && [ "$found" != "$layout" ]; then
  refuse "the data of $SERVER_NAME are of the layout $found, and it was told to start as $layout" \
    "keep $found: hogsend compose layout $found; or move the streams: hogsend compose layout $layout"
else
  echo "$layout" > "$marker"
fi
exec nats-server --config "${CONFIG:-/etc/nats/$layout.conf}" --port "$port"
