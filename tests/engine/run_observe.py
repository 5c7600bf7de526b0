"""Starts a deployment with `--profile observe`, and checks Prometheus, Grafana and Jaeger.

python -m tests.engine.run_observe WORK

Prometheus must scrape every service and evaluate every rule, Grafana must have the dashboard and
get a response to each of its queries, and Jaeger must receive traces of every service. Then every
container of Hogsend is replaced, during which no alert may fire, and one is stopped, after which
one alert must fire. The images are pulled, or come from `stand_ins.sh` and `observers.sh`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.engine.checkout import GATEWAY, Checkout, say

PROMETHEUS = "http://127.0.0.1:9090"
GRAFANA = "http://127.0.0.1:3000"
JAEGER = "http://127.0.0.1:16686"
SERVICES = ("gateway", "credentials", "provisioner", "ingest", "analytics")
EVERYTHING = "docker compose --profile observe"
WAIT_SECONDS = 300


def get_json(url: str, **parameters: str) -> Any:
    """Return the JSON at a URL."""
    response = httpx.get(url, params=parameters, timeout=30)
    response.raise_for_status()
    return response.json()


def wait_for(description: str, condition: Callable[[], bool]) -> None:
    """Wait until a condition is true, and print its description."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_true(condition):
        if time.monotonic() > deadline:
            raise SystemExit(f"{description}: not within {WAIT_SECONDS} s")
        time.sleep(1)
    say(description)


def is_true(condition: Callable[[], bool]) -> bool:
    """Whether a condition is true; false while a server does not respond."""
    try:
        return condition()
    except httpx.HTTPError:
        return False


def all_are_scraped() -> bool:
    """Whether Prometheus scrapes every service."""
    targets = get_json(f"{PROMETHEUS}/api/v1/targets")["data"]["activeTargets"]
    return sorted((each["labels"]["service"], each["health"]) for each in targets) == sorted(
        (service, "up") for service in SERVICES
    )


def rules_are_evaluated() -> bool:
    """Whether every rule is evaluated, without an error."""
    (group,) = get_json(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"]
    return {rule["health"] for rule in group["rules"]} == {"ok"}


def firing() -> set[str]:
    """Return the names of the alerts that fire now."""
    alerts = get_json(f"{PROMETHEUS}/api/v1/alerts")["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def fired() -> set[str]:
    """Return the names of the alerts that fired within the last hour."""
    expression = 'max_over_time(ALERTS{alertstate="firing"}[1h])'
    series = get_json(f"{PROMETHEUS}/api/v1/query", query=expression)["data"]["result"]
    return {each["metric"]["alertname"] for each in series}


def run_dashboard_queries() -> None:
    """Run each query of the dashboard through Grafana's data source."""
    dashboard = get_json(f"{GRAFANA}/api/dashboards/uid/hogsend")["dashboard"]
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    proxy = f"{GRAFANA}/api/datasources/proxy/uid/prometheus/api/v1/query"
    empty = [query for query in queries if not get_json(proxy, query=query)["data"]["result"]]
    say(f"{len(queries)} queries of the dashboard succeed; {len(empty)} have no result yet:")
    for query in empty:
        say(f"  {query}")


def main() -> int:
    """Run all the checks."""
    checkout = Checkout(Path(sys.argv[1]).resolve())
    checkout.prepare()
    (checkout.directory / ".env").write_text(
        "WEBHOOK_OPEN=true\nOTEL_EXPORTER_OTLP_ENDPOINT=http://jaeger:4318\n"
    )
    checkout.bash(f"python3 deploy/generate_secrets.py; docker compose build; {EVERYTHING} up -d")
    checkout.wait_until_healthy()
    wait_for("every service is scraped", all_are_scraped)
    wait_for("every rule is evaluated", rules_are_evaluated)
    with checkout.load("send", "--to", GATEWAY):
        # A rate needs at least two scrapes.
        time.sleep(60)
        run_dashboard_queries()
    wait_for(
        "every service is traced",
        lambda: (
            {f"hogsend-{service}" for service in SERVICES}
            <= set(get_json(f"{JAEGER}/api/services")["data"])
        ),
    )
    checkout.bash(f"docker compose up -d --force-recreate {' '.join(SERVICES)} nats")
    checkout.wait_until_healthy()
    wait_for("every service is scraped again", all_are_scraped)
    if alerts := fired():
        raise SystemExit(f"these alerts fired while containers were replaced: {alerts}")
    checkout.bash("docker compose stop ingest")
    wait_for("the alert for ingest fires", lambda: firing() == {"HogsendServiceDown"})
    checkout.bash("docker compose start ingest")
    wait_for("the alert is resolved", lambda: not firing())
    checkout.verify()
    checkout.bash(f"{EVERYTHING} down --volumes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
