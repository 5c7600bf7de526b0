"""Starts a deployment with `--profile observe`, and looks at it as its observers do.

python -m tests.engine.run_observe WORK

Prometheus has to read every service and evaluate every rule, Grafana to have the dashboard and to
get an answer to each of its queries, Jaeger to get traces of every service. Then every container of
ours is replaced, for which nothing may fire, and one is stopped, for which one alert has to fire.
The images are pulled, or of `stand_ins.sh` and `observers.sh`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.engine.reader import GATEWAY, Reader, say

PROMETHEUS = "http://127.0.0.1:9090"
GRAFANA = "http://127.0.0.1:3000"
JAEGER = "http://127.0.0.1:16686"
SERVICES = ("gateway", "credentials", "provisioner", "ingest", "analytics")
EVERYTHING = "docker compose --profile observe"
WAIT_SECONDS = 300


def asked(url: str, **parameters: str) -> Any:
    """What is answered."""
    answer = httpx.get(url, params=parameters, timeout=30)
    answer.raise_for_status()
    return answer.json()


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds(condition):
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {WAIT_SECONDS} s")
        time.sleep(1)
    say(what)


def holds(condition: Callable[[], bool]) -> bool:
    """Whether something is so; not while nobody answers."""
    try:
        return condition()
    except httpx.HTTPError:
        return False


def all_are_read() -> bool:
    """Whether Prometheus reads every service."""
    targets = asked(f"{PROMETHEUS}/api/v1/targets")["data"]["activeTargets"]
    return sorted((one["labels"]["service"], one["health"]) for one in targets) == sorted(
        (service, "up") for service in SERVICES
    )


def rules_are_evaluated() -> bool:
    """Whether every rule is evaluated, without an error."""
    (group,) = asked(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"]
    return {rule["health"] for rule in group["rules"]} == {"ok"}


def firing() -> set[str]:
    """Alerts that fire now."""
    alerts = asked(f"{PROMETHEUS}/api/v1/alerts")["data"]["alerts"]
    return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


def fired() -> set[str]:
    """Alerts that have fired."""
    expression = 'max_over_time(ALERTS{alertstate="firing"}[1h])'
    found = asked(f"{PROMETHEUS}/api/v1/query", query=expression)["data"]["result"]
    return {one["metric"]["alertname"] for one in found}


def look_at_dashboard() -> None:
    """Ask each query of the dashboard, where Grafana does."""
    dashboard = asked(f"{GRAFANA}/api/dashboards/uid/hogsend")["dashboard"]
    queries = [one["expr"] for panel in dashboard["panels"] for one in panel["targets"]]
    proxy = f"{GRAFANA}/api/datasources/proxy/uid/prometheus/api/v1/query"
    empty = [one for one in queries if not asked(proxy, query=one)["data"]["result"]]
    say(f"{len(queries)} queries of the dashboard are answered; {len(empty)} with nothing yet:")
    for one in empty:
        say(f"  {one}")


def main() -> int:
    """Run it all."""
    reader = Reader(Path(sys.argv[1]).resolve())
    reader.prepare()
    (reader.directory / ".env").write_text(
        "WEBHOOK_OPEN=true\nOTEL_EXPORTER_OTLP_ENDPOINT=http://jaeger:4318\n"
    )
    reader.bash(f"python3 deploy/generate_secrets.py; docker compose build; {EVERYTHING} up -d")
    reader.wait_until_healthy()
    wait_for("every service is read", all_are_read)
    wait_for("every rule is evaluated", rules_are_evaluated)
    with reader.load("send", "--to", GATEWAY):
        # As long as a rate needs two scrapes.
        time.sleep(60)
        look_at_dashboard()
    wait_for(
        "every service is traced",
        lambda: (
            {f"hogsend-{one}" for one in SERVICES} <= set(asked(f"{JAEGER}/api/services")["data"])
        ),
    )
    reader.bash(f"docker compose up -d --force-recreate {' '.join(SERVICES)} nats")
    reader.wait_until_healthy()
    wait_for("every service is read again", all_are_read)
    if found := fired():
        raise SystemExit(f"these fired while containers were replaced: {found}")
    reader.bash("docker compose stop ingest")
    wait_for("its alert fires", lambda: firing() == {"HogsendServiceDown"})
    reader.bash("docker compose start ingest")
    wait_for("and goes away", lambda: not firing())
    reader.verify()
    reader.bash(f"{EVERYTHING} down --volumes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
