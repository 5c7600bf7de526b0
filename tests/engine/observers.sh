#!/bin/sh
# Makes the images of `--profile observe`, on an engine that cannot pull them: Debian's Prometheus,
# and for Grafana and Jaeger a program that answers what run_observe asks.
#
#   tests/engine/observers.sh WORK     after stand_ins.sh WORK, with Debian's prometheus installed
set -eu
work=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

pinned() { # the image compose.yaml names
  sed -n "s/.*IMAGE:-\([^}]*$1:[^}]*\)}.*/\1/p" "$root/compose.yaml" | head -1
}

rm -rf "$work/prometheus" && cp -a "$work/debian" "$work/prometheus"
install -m 755 "$(command -v prometheus)" "$work/prometheus/usr/bin/prometheus"
# As in the official image, a new volume is nobody's.
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
