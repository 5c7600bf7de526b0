"""Dashboard and alert rules: valid, and of metrics that the services have."""

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
PROVOKED = Path(__file__).with_name("alerts.promtool.yaml")
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
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*shown, *(rule["expr"] for rule in rules())]


def test_dashboard_and_rules_name_metrics_that_the_services_have() -> None:
    known = set()
    for metric in registered():
        name = exposed_name(metric)
        histogram = metric._type == "histogram"
        known |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if histogram else {name}
    used = {name for one in expressions() for name in re.findall(r"\bhogsend_\w+", one)}
    assert used - known == set()
    assert len(used) > 20


def test_dashboard_and_rules_name_labels_that_their_metrics_have() -> None:
    labels = {name for metric in registered() for name in metric._labelnames}
    labels |= {"le", "service", "job"}
    for one in expressions():
        for named in re.findall(r"(?:by|on) \(([^)]*)\)", one):
            assert set(re.findall(r"\w+", named)) <= labels, one


def test_each_alert_has_a_runbook_with_its_expression_and_no_runbook_is_left_over() -> None:
    index = (RUNBOOKS / "index.md").read_text()
    for rule in rules():
        page = ROOT / rule["annotations"]["runbook"]
        assert page.stem == rule["alert"]
        assert rule["expr"] in page.read_text(), page.name
        assert f"\n{page.stem}\n" in index
        assert rule["labels"]["severity"] in {"warning", "critical"}
    written = {page.stem for page in RUNBOOKS.glob("*.md")} - {"index"}
    assert written == {rule["alert"] for rule in rules()}


def test_runbooks_quote_lines_of_the_log_that_there_are() -> None:
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


def test_each_alert_is_provoked() -> None:
    provoked = PROVOKED.read_text()
    for rule in rules():
        assert f'alertname="{rule["alert"]}"' in provoked


def scraped() -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = yaml.safe_load((GRAFANA / "prometheus.yaml").read_text())[
        "scrape_configs"
    ]
    return jobs


def test_every_gateway_behind_one_port_is_read_once() -> None:
    overlay = yaml.load((DEPLOY / "shared-port.yaml").read_text(), Loader=WithReset)["services"]  # noqa: S506 - a SafeLoader
    names = overlay.pop("door")["networks"]["default"]["aliases"]
    reached = [
        (label, str(one["port"]))
        for job in scraped()
        for one in job["dns_sd_configs"]
        for name in one["names"]
        if name in names
        for label in [service_label(job, name)]
    ]
    # Every second gateway of a cluster, and this one, has the same label.
    assert reached == [
        (name, gateway["environment"]["METRICS_PORT"]) for name, gateway in overlay.items()
    ]


def service_label(job: dict[str, Any], name: str) -> str:
    (rule,) = [one for one in job["relabel_configs"] if one["target_label"] == "service"]
    return str(rule.get("replacement", name))


def test_metrics_are_on_in_every_container_and_pod_and_read_by_one_configuration() -> None:
    services = compose()["services"]
    jobs = [one for one in scraped() if one["job_name"] != SHARED_PORT]
    read = {name for job in jobs for one in job["dns_sd_configs"] for name in one["names"]}
    ours = {name for name, one in services.items() if one.get("command", [""])[0] == "serve"}
    assert read == ours
    assert {str(one["port"]) for job in jobs for one in job["dns_sd_configs"]} == {SERVED_ON}
    for name in ours:
        assert services[name]["environment"]["METRICS_PORT"] == f"${{METRICS_PORT:-{SERVED_ON}}}"
    bus = next(one for one in kustomization()["configMapGenerator"] if one["name"] == "bus")
    assert f"METRICS_PORT={SERVED_ON}" in bus["literals"]
    for document in documents():
        for container in pods(document).get("containers", ()):
            if container["image"] == "hogsend":
                ports = {one["name"]: one["containerPort"] for one in container["ports"]}
                assert ports["metrics"] == int(SERVED_ON)
                about = document["spec"]["template"]["metadata"]
                assert about["labels"]["metrics"] == "yes"
                assert about["annotations"]["prometheus.io/port"] == SERVED_ON


def test_every_observer_is_pinned_and_on_this_machine_only() -> None:
    observers = {
        name: one
        for name, one in compose()["services"].items()
        if one.get("profiles") == ["observe"]
    }
    assert observers.keys() == {"prometheus", "grafana", "jaeger"}
    for one in observers.values():
        assert re.search(r":-[\w./-]+:v?\d+\.\d+\.\d+\}$", one["image"])
        for mounted in one.get("volumes", ()):
            source = mounted.split(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists(), source
