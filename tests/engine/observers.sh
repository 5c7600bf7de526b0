#!/bin/sh
# Builds the images of `--profile observe` for an engine that cannot pull them: Debian's Prometheus,
# and a stand-in for Grafana and Jaeger that handles the requests of run_observe.
#
#   tests/engine/observers.sh WORK     after stand_ins.sh WORK, with Debian's prometheus installed
set -eu
work=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

pinned() { # prints the image that compose.yaml pins
  sed -n "s/.*IMAGE:-\([^}]*$1:[^}]*\)}.*/\1/p" "$root/compose.yaml" | head -1
}

rm -rf "$work/prometheus" && cp -a "$work/debian" "$work/prometheus"
install -m 755 "$(command -v prometheus)" "$work/prometheus/usr/bin/prometheus"
# In the official image this directory, and so a new volume, belongs to the user `nobody` (65534).
install -d -o 65534 -g 65534 "$work/prometheus/prometheus"
tar -C "$work/prometheus" -c . | docker import \
  --change 'USER nobody' --change 'ENTRYPOINT ["/usr/bin/prometheus"]' - "$(pinned prometheus)"
rm -rf "$work/prometheus"

python=$(sed -n 's/^ARG PYTHON_IMAGE=//p' "$root/Dockerfile")
for name in grafana jaeger; do
  docker build --tag "$(pinned "$name")" --file - "$here" <<END
FROM $python
COPY observer.py /observer.py
USER nobody
ENTRYPOINT ["python3", "/observer.py", "$name"]
END
done
docker images
