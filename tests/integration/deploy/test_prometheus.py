"""The alert rules in a real Prometheus: each alert fires once under its condition, and resolves."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from docs.generators.metrics import exposed_name, registered
from tests.integration.deploy.alert_series import CHANGES_BY_ALERT, HEALTHY, SERVICES, Stack
from tests.ports import free_port
from tests.unit.deploy.test_grafana import GRAFANA, rules
from tests.waiting import PATIENCE_SECONDS, eventually

PROMETHEUS = shutil.which("prometheus")
REPLICAS = 2
SHORT = {
    "for: ": "100ms",
    "[5m": "2s",
    "[10m": "2s",
    "[30m": "2s",
    "[1h": "2s",
    "offset 1h": "2s",
    # Longer than the whole test, like the day without webhooks that the alert waits for.
    "[1d": "10m",
    "offset 1d": "10m",
    "[1w": "20m",
}
"""Replacements for the durations in the rules; everything else in them stays as it is."""


def shortened(text: str) -> str:
    """Return the rules with every duration replaced; one that `SHORT` lacks is a KeyError."""

    def short(match: re.Match[str]) -> str:
        prefix, duration = match.groups()
        replacement = SHORT.get(prefix) or SHORT[prefix + duration]
        return f"{prefix}{replacement}"

    return re.sub(r"(\[|for: |offset )(\d+[smhdwy])", short, text)


def test_every_alert_has_a_condition_in_this_test() -> None:
    assert CHANGES_BY_ALERT.keys() == {rule["alert"] for rule in rules()}


def test_every_series_of_this_test_has_the_labels_of_the_real_metric() -> None:
    labels = {exposed_name(metric): set(metric._labelnames) for metric in registered()}
    for _, series in HEALTHY:
        name, _, pairs = series.removesuffix("}").partition("{")
        assert set(re.findall(r"(\w+)=", pairs)) == labels[name], series


@contextmanager
def served(stack: Stack) -> Iterator[int]:
    """Serve the stack's metrics on the returned port, at `/<service>/<replica>`."""

    class Target(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, service, replica = self.path.split("/")
            with lock:
                text = stack.text(service, int(replica))
            self.send_response(503 if text is None else 200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    lock = threading.Lock()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Target)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def configuration(port: int) -> dict[str, Any]:
    targets = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {
                "service": service,
                "instance": f"{service}-{replica}",
                "__metrics_path__": f"/{service}/{replica}",
            },
        }
        for service in SERVICES
        for replica in range(REPLICAS)
    ]
    return {
        "global": {
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "evaluation_interval": "100ms",
        },
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [{"job_name": "hogsend", "static_configs": targets}],
    }


class Prometheus:
    """A running Prometheus."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def ready(self) -> bool:
        try:
            return (await self.http.get("/-/ready")).is_success
        except httpx.HTTPError:
            return False

    async def evaluated(self) -> tuple[str, dict[str, list[str]]]:
        """Return the time of the last evaluation, and the states of each active alert."""
        response = (await self.http.get("/api/v1/rules", params={"type": "alert"})).json()
        (group,) = response["data"]["groups"]
        assert not [rule for rule in group["rules"] if rule["health"] == "err"]
        active = {
            rule["name"]: [alert["state"] for alert in rule["alerts"]]
            for rule in group["rules"]
            if rule["alerts"]
        }
        return group["lastEvaluation"], active

    async def wait_for_alerts(self, expected: dict[str, list[str]]) -> None:
        """Wait until two consecutive evaluations result in exactly these alerts."""
        first: str | None = None
        active: dict[str, list[str]] = {}

        async def twice() -> bool:
            nonlocal first, active
            at, active = await self.evaluated()
            if active != expected:
                first = None
            elif first is None:
                first = at
            return first is not None and at != first

        try:
            await eventually(twice)
        except TimeoutError:
            pytest.fail(f"expected {expected}, and the alerts are {active}")


@asynccontextmanager
async def prometheus(directory: Path, port: int) -> AsyncIterator[Prometheus]:
    (directory / "alerts.yaml").write_text(shortened((GRAFANA / "alerts.yaml").read_text()))
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(configuration(port)))
    address = f"127.0.0.1:{free_port()}"
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(PROMETHEUS),
            f"--config.file={directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={address}",
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(
            base_url=f"http://{address}", timeout=PATIENCE_SECONDS
        ) as http:
            running = Prometheus(http)
            await eventually(running.ready)
            yield running
    finally:
        process.kill()
        await process.wait()


@pytest.mark.skipif(PROMETHEUS is None, reason="Debian's prometheus is not installed")
async def test_each_alert_fires_alone_under_its_condition_and_resolves(tmp_path: Path) -> None:
    stack = Stack()
    with served(stack) as port:
        async with prometheus(tmp_path, port) as observer:
            # The alert about missing traffic needs earlier traffic.
            received = 'sum(increase(hogsend_webhooks_accepted_total{worker="1"}[10m] offset 2s))'
            await eventually(lambda: _is_above(observer, received, 240))
            await observer.wait_for_alerts({})
            for alert, changed in CHANGES_BY_ALERT.items():
                # The previous alert resolves in the meantime.
                stack.changed = changed
                await observer.wait_for_alerts({alert: ["firing"]})
            stack.changed = {}
            await observer.wait_for_alerts({})


async def _is_above(observer: Prometheus, expression: str, least: float) -> bool:
    response = await observer.http.get("/api/v1/query", params={"query": expression})
    return any(float(each["value"][1]) > least for each in response.json()["data"]["result"])
