"""Dashboard, alert rules and scrape configuration agree with the services and with each other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from docs.generators.metrics import exposed_name, registered
from tests.unit.deploy.test_files import (
    DEPLOY,
    ROOT,
    WithReset,
    compose,
    documents,
    kustomization,
    pods,
)

GRAFANA = DEPLOY / "grafana"
RUNBOOKS = ROOT / "docs" / "runbooks"
PROMTOOL_TESTS = Path(__file__).with_name("alerts.promtool.yaml")
SERVED_ON = "9464"
PROGRAMS = ("hogsend ", "docker ", "kubectl ", "nats ")
SHARED_PORT = "hogsend-shared-port"


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((GRAFANA / "dashboard.json").read_text())["panels"]
    return loaded


def expressions() -> list[str]:
    drawn = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*drawn, *(rule["expr"] for rule in rules())]


def test_dashboard_and_rules_use_metrics_that_the_services_export() -> None:
    exported = set()
    for metric in registered():
        name = exposed_name(metric)
        histogram = metric._type == "histogram"
        exported |= (
            {f"{name}_{part}" for part in ("bucket", "sum", "count")} if histogram else {name}
        )
    used = {name for text in expressions() for name in re.findall(r"\bhogsend_\w+", text)}
    assert used - exported == set()
    assert len(used) > 20


def test_dashboard_and_rules_use_labels_that_the_metrics_have() -> None:
    labels = {name for metric in registered() for name in metric._labelnames}
    labels |= {"le", "service", "job"}
    for expression in expressions():
        for grouping in re.findall(r"(?:by|on) \(([^)]*)\)", expression):
            assert set(re.findall(r"\w+", grouping)) <= labels, expression


def test_each_alert_has_a_runbook_with_its_expression_and_each_runbook_an_alert() -> None:
    index = (RUNBOOKS / "index.md").read_text()
    for rule in rules():
        page = ROOT / rule["annotations"]["runbook"]
        assert page.stem == rule["alert"]
        assert rule["expr"] in page.read_text(), page.name
        assert f"\n{page.stem}\n" in index
        assert rule["labels"]["severity"] in {"warning", "critical"}
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"index"}
    assert pages == {rule["alert"] for rule in rules()}


def test_runbooks_quote_log_lines_that_the_code_contains() -> None:
    code = "".join(
        file.read_text() for top in ("services", "shared") for file in (ROOT / top).rglob("*.py")
    )
    quoted = {
        line
        for page in RUNBOOKS.glob("*.md")
        for line in re.findall(r"`([^`]+)`", re.sub(r"(?s)```.*?```", "", page.read_text()))
        if re.fullmatch(r"[a-z']+( [a-z']+)+", line) and not line.startswith(PROGRAMS)
    }
    assert {line for line in quoted if line not in code} == set()
    assert len(quoted) > 5


def test_each_alert_has_a_promtool_test() -> None:
    text = PROMTOOL_TESTS.read_text()
    for rule in rules():
        assert f'alertname="{rule["alert"]}"' in text


def scrape_jobs() -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = yaml.safe_load((GRAFANA / "prometheus.yaml").read_text())[
        "scrape_configs"
    ]
    return jobs


def test_every_gateway_behind_one_port_is_scraped_once() -> None:
    overlay = yaml.load((DEPLOY / "shared-port.yaml").read_text(), Loader=WithReset)["services"]  # noqa: S506 - a SafeLoader
    aliases = overlay.pop("door")["networks"]["default"]["aliases"]
    targets = [
        (label, str(lookup["port"]))
        for job in scrape_jobs()
        for lookup in job["dns_sd_configs"]
        for name in lookup["names"]
        if name in aliases
        for label in [service_label(job, name)]
    ]
    # `gateway-2` has the same label here and in a cluster.
    assert targets == [
        (name, gateway["environment"]["METRICS_PORT"]) for name, gateway in overlay.items()
    ]


def service_label(job: dict[str, Any], name: str) -> str:
    (rule,) = [each for each in job["relabel_configs"] if each["target_label"] == "service"]
    return str(rule.get("replacement", name))


def test_every_container_and_pod_of_a_service_serves_metrics_on_the_port_that_is_scraped() -> None:
    services = compose()["services"]
    jobs = [job for job in scrape_jobs() if job["job_name"] != SHARED_PORT]
    lookups = [lookup for job in jobs for lookup in job["dns_sd_configs"]]
    own_services = {
        name for name, service in services.items() if service.get("command", [""])[0] == "serve"
    }
    assert {name for lookup in lookups for name in lookup["names"]} == own_services
    assert {str(lookup["port"]) for lookup in lookups} == {SERVED_ON}
    for name in own_services:
        assert services[name]["environment"]["METRICS_PORT"] == f"${{METRICS_PORT:-{SERVED_ON}}}"
    bus = next(each for each in kustomization()["configMapGenerator"] if each["name"] == "bus")
    assert f"METRICS_PORT={SERVED_ON}" in bus["literals"]
    for document in documents():
        for container in pods(document).get("containers", ()):
            if container["image"] == "hogsend":
                ports = {port["name"]: port["containerPort"] for port in container["ports"]}
                assert ports["metrics"] == int(SERVED_ON)
                metadata = document["spec"]["template"]["metadata"]
                assert metadata["labels"]["metrics"] == "yes"
                assert metadata["annotations"]["prometheus.io/port"] == SERVED_ON


def test_every_observer_has_a_pinned_image_and_mounts_files_of_the_repository() -> None:
    observers = {
        name: service
        for name, service in compose()["services"].items()
        if service.get("profiles") == ["observe"]
    }
    assert observers.keys() == {"prometheus", "grafana", "jaeger"}
    for service in observers.values():
        assert re.search(r":-[\w./-]+:v?\d+\.\d+\.\d+\}$", service["image"])
        for mounted in service.get("volumes", ()):
            source = mounted.split(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists(), source
