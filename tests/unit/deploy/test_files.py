"""The files of a deployment are valid and agree with the code and with each other."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import kubernetes_validate
import pytest
import yaml

from cli.deployment.env_check import IMAGE, REFUSED, SEEN_NAMES
from cli.deployment.layout import SERVERS, VARIABLES, Layout
from cli.deployment.layout_move import SECOND
from cli.stack import nats as nats_server
from cli.stack.environment import SECRETS_WITHHELD, SERVICE_SETTINGS
from cli.stack.settings import ALL_SETTINGS
from hogsend import __version__
from hogsend.contract.streams import DEFAULT_LIMITS, GIB
from hogsend.contract.users import User
from hogsend.service.settings.shared import TelemetrySettings
from sandbox.app import build
from sandbox.options import Options
from services.gateway.listener import OWN_DESCRIPTORS
from services.gateway.settings import GatewaySettings
from services.gateway.webhooks.size_limit import HEADERS_BYTES

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
OPENTELEMETRY = {
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
}
"""Variables that OpenTelemetry itself reads; docs/traces.md describes them."""
NOT_PASSED_ON = {
    # The image sets these, or they have no use in a container.
    *("GATEWAY_HOST", "GATEWAY_PORT", "SPOOL_DIR", "HEALTH_FILE", "ALIVE_FILE"),
    # Each service sets its own NATS user.
    *("NATS_USER",),
}
FROM_FILES = {"NATS_PASSWORD", "DATABASE_URL", "ADMIN_API_KEY", "BETTER_AUTH_SECRET"}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return loaded


def documents() -> list[dict[str, Any]]:
    return [document for file in MANIFESTS for document in yaml.safe_load_all(file.read_text())]


def kustomization() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
    return loaded


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("deploy") / "secrets"
    generate(directory)
    return directory


def generate(directory: Path, *more: str) -> str:
    # `-S`: an operator has Python and no packages.
    command = [sys.executable, "-S", str(DEPLOY / "generate_secrets.py"), str(directory), *more]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_compose_is_valid_by_its_schema() -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", str(ROOT / "compose.yaml")),
        ],
        check=True,
    )


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_manifests_are_valid_by_their_schema(file: Path) -> None:
    for document in yaml.safe_load_all(file.read_text()):
        kubernetes_validate.validate(document, "1.33", strict=True)


@pytest.mark.parametrize("service", SERVICE_SETTINGS)
def test_compose_passes_each_service_its_settings_and_no_other(service: str) -> None:
    definition = compose()["services"][service]
    variables = set(definition["environment"])
    files = {mounted["target"].upper() for mounted in definition["secrets"]}
    reads = {name for group in SERVICE_SETTINGS[service] for name in group.environment_names()}
    reads -= SECRETS_WITHHELD.get(service, frozenset())
    assert {name for name in variables if name.startswith("OTEL_")} == OPENTELEMETRY
    assert (variables - OPENTELEMETRY) | files == reads - NOT_PASSED_ON
    assert files == FROM_FILES & reads
    assert definition["command"] == ["serve", service]


def interpolated() -> set[str]:
    """Return the variables that `compose.yaml` reads from `.env` or the shell."""
    return set(re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "compose.yaml").read_text()))


def test_every_setting_reaches_a_service_or_is_refused_by_name() -> None:
    settings = {name for group in ALL_SETTINGS for name in group.environment_names()}
    # NATS_CLIENT_PORT is no setting: `hogsend compose layout` sets it during a move.
    assert settings - interpolated() == REFUSED.keys() - {"NATS_CLIENT_PORT"}
    assert {f"SEEN_{name}" for name in SEEN_NAMES} <= compose()["services"]["settings"][
        "environment"
    ].keys()


def test_env_files_of_nats_users_set_no_variable_that_compose_reads(secrets: Path) -> None:
    variables = {
        line.partition("=")[0]
        for file in secrets.glob("*.env")
        for line in file.read_text().splitlines()
        if not line.startswith("#")
    }
    assert "NATS_URL" in variables
    assert not variables & interpolated()


def test_no_container_starts_before_the_settings_are_checked() -> None:
    services = compose()["services"]
    assert services["settings"]["env_file"] == ".env"
    assert services["settings"]["command"] == ["compose", "check"]
    for name, service in services.items():
        if name != "settings":
            condition = service["depends_on"]["settings"]["condition"]
            assert condition == "service_completed_successfully", name


def test_one_service_builds_the_image_of_all_services_tagged_by_version() -> None:
    services = compose()["services"]
    assert [name for name, service in services.items() if "build" in service] == ["settings"]
    images = {services[name]["image"] for name in ("settings", *SERVICE_SETTINGS)}
    assert images == {f"${{HOGSEND_IMAGE:-hogsend:{__version__}}}"}
    (sandbox,) = re.findall(r"image: (.*)", (DEPLOY / "sandbox.yaml").read_text())
    assert {sandbox} == images


def test_every_service_that_calls_posthog_calls_the_stand_in_in_the_sandbox_overlay() -> None:
    overlay = yaml.safe_load((DEPLOY / "sandbox.yaml").read_text())["services"]
    for name, service in compose()["services"].items():
        calls = {"POSTHOG_HOST", "POSTHOG_PRIVATE_HOST"} <= service.get("environment", {}).keys()
        assert (name in overlay) is calls, name
        if calls:
            changed = overlay[name]["environment"]
            assert changed.keys() <= service["environment"].keys()
            keys = {"POSTHOG_API_KEY", "POSTHOG_PERSONAL_API_KEY", "POSTHOG_PROJECT_ID"}
            assert keys & service["environment"].keys() <= changed.keys(), name
            # An operator's proxy cannot resolve the name of the container.
            host = urlsplit(changed["POSTHOG_HOST"]).hostname
            assert host in changed["NO_PROXY"].split(","), name
    assert overlay["sandbox"]["logging"] == compose()["services"]["gateway"]["logging"]


async def test_the_health_check_of_the_sandbox_requests_a_page_that_it_has() -> None:
    sandbox = yaml.safe_load((DEPLOY / "sandbox.yaml").read_text())["services"]["sandbox"]
    *_, script = sandbox["healthcheck"]["test"]
    (url,) = re.findall(r"http://[^']+", script)
    options = Options()
    assert url.startswith(f"{options.url}/")
    transport = httpx.ASGITransport(build(options))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport) as http:
        assert (await http.get(url)).status_code == 200


def test_compose_and_the_image_have_the_same_health_check() -> None:
    (command,) = re.findall(r"CMD (find .*)", (ROOT / "Dockerfile").read_text())
    for service in SERVICE_SETTINGS:
        checked = compose()["services"][service]["healthcheck"]["test"]
        assert checked == ["CMD-SHELL", command.replace("$", "$$")]


def test_the_number_of_replicas_is_a_setting() -> None:
    services = compose()["services"]
    for name in ("credentials", "provisioner", "ingest", "analytics"):
        assert services[name]["scale"] == f"${{{name.upper()}_REPLICAS:-1}}"


def test_compose_reads_the_variables_of_a_layout() -> None:
    services = compose()["services"]
    for layout in Layout:
        lines = layout.lines("")
        assert set(lines) == set(VARIABLES) <= interpolated() | {"COMPOSE_PROFILES"}
    assert set(SERVERS) <= services.keys()
    second = {name for name, service in services.items() if service.get("profiles") == ["cluster"]}
    assert second == {*SERVERS[1:], *SECOND}


def test_compose_lets_a_gateway_open_enough_files_for_its_connections() -> None:
    fields = GatewaySettings.model_fields
    needed = fields["gateway_max_connections"].default + OWN_DESCRIPTORS
    for name in ("gateway", "gateway-2"):
        limits = compose()["services"][name]["ulimits"]["nofile"]
        # An engine that may not set a limit this high does not create the container.
        default = re.fullmatch(r"\$\{GATEWAY_OPEN_FILES:-(\d+)\}", limits["hard"])
        assert limits["soft"] == limits["hard"]
        assert default is not None
        assert needed <= int(default[1]) <= 2 * needed


class WithReset(yaml.SafeLoader):
    """Loads a value with Compose's tag `!reset`, which removes it, as None."""


WithReset.add_constructor("!reset", lambda _loader, _node: None)


def test_two_gateways_share_the_port_of_a_container_that_outlives_them() -> None:
    base = compose()["services"]
    overlay = yaml.load((DEPLOY / "shared-port.yaml").read_text(), Loader=WithReset)["services"]  # noqa: S506 - a SafeLoader
    door = overlay.pop("door")
    assert door["ports"] == base["gateway"]["ports"]
    assert door["image"] == base["nats"]["image"]
    assert door["cap_drop"] == ["ALL"]
    assert door["sysctls"] == {"net.ipv4.tcp_migrate_req": "1"}
    # The name under which the network reaches a gateway, and the name for the second one's metrics.
    assert door["networks"]["default"]["aliases"] == ["gateway", "gateway-behind-one-port"]
    assert set(overlay) == {"gateway", "gateway-2"}
    for gateway in overlay.values():
        assert gateway["network_mode"] == "service:door"
        assert gateway["ports"] is None
        assert gateway["environment"]["GATEWAY_SHARE_PORT"] == "true"
    # The gateways share one network namespace, so their other ports must differ. The second one has
    # no profile, so it always starts.
    ports = [gateway["environment"]["METRICS_PORT"] for gateway in overlay.values()]
    assert len(set(ports)) == len(ports)
    assert overlay["gateway-2"]["environment"]["GATEWAY_LIVENESS_PORT"] == "0"
    assert overlay["gateway-2"]["profiles"] is None


def test_every_service_is_locked_down_in_compose() -> None:
    files = (ROOT / "compose.yaml", DEPLOY / "sandbox.yaml", DEPLOY / "shared-port.yaml")
    in_files = [yaml.load(file.read_text(), Loader=WithReset)["services"] for file in files]  # noqa: S506 - a SafeLoader
    # Services without an image are changes to those of compose.yaml.
    services = [item for each in in_files for item in each.items() if "image" in item[1]]
    assert {"postgres", "nats", "gateway", "prometheus", "sandbox", "door"} <= {
        name for name, _ in services
    }
    for name, service in services:
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert "stop_grace_period" in service or service.get("init"), name
        for port in service.get("ports", ()):
            assert "127.0.0.1:" in port, f"{name} is published to the world"


def test_images_of_servers_are_pinned_and_the_same_everywhere() -> None:
    text = (ROOT / "compose.yaml").read_text()
    pinned = set(re.findall(r"IMAGE:-((?:nats|postgres):\d+\.\d+(?:\.\d+)?-alpine)\}", text))
    assert {image.split(":")[0] for image in pinned} == {"nats", "postgres"}
    used = {
        container["image"]
        for document in documents()
        for container in pods(document).get("containers", ())
    }
    assert used == pinned | {"hogsend"}


def pods(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document.get("spec", {}).get("template", {}).get("spec", {})
    return spec


def test_every_pod_is_locked_down() -> None:
    named = [(document["metadata"]["name"], pods(document)) for document in documents()]
    running = {name: pod for name, pod in named if pod}
    assert running.keys() == {*SERVICE_SETTINGS, "nats", "postgres"}
    for name, pod in running.items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"], name
            assert not context["allowPrivilegeEscalation"], name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert probe in container, name


def test_a_rollout_waits_until_each_new_pod_has_been_ready_for_a_while() -> None:
    for document in documents():
        if not pods(document):
            continue
        name = document["metadata"]["name"]
        assert document["spec"]["minReadySeconds"] >= 10, name
        if document["kind"] == "Deployment":
            assert document["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0, name


def test_every_pod_has_a_disruption_budget() -> None:
    budgets = {
        document["spec"]["selector"]["matchLabels"]["app"]
        for document in documents()
        if document["kind"] == "PodDisruptionBudget"
    }
    assert budgets == {*SERVICE_SETTINGS, "nats", "postgres"}


def test_a_nats_pod_has_started_when_its_streams_are_available() -> None:
    (nats,) = [each for each in documents() if pods(each) and each["metadata"]["name"] == "nats"]
    (container,) = pods(nats)["containers"]
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/varz")):
        assert container[probe]["exec"]["command"][-1] == f"http://127.0.0.1:8222{path}"


@pytest.mark.parametrize("service", SERVICE_SETTINGS)
def test_every_secret_setting_of_a_service_can_be_set_in_kubernetes(service: str) -> None:
    (workload,) = [
        each for each in documents() if pods(each) and each["metadata"]["name"] == service
    ]
    (container,) = pods(workload)["containers"]
    optional = (
        {
            variable["name"]
            for variable in container["env"]
            if variable.get("valueFrom", {}).get("secretKeyRef", {}).get("optional")
        }
        if "env" in container
        else set()
    )
    reads = {name for group in SERVICE_SETTINGS[service] for name in group.environment_names()}
    reads -= SECRETS_WITHHELD.get(service, frozenset()) | FROM_FILES
    secrets = {name for name in reads if re.search(r"_(KEY|SECRET|PASSWORD)(_PREVIOUS)?$", name)}
    assert optional == secrets - {"NATS_TLS_KEY", "POSTHOG_MINT_WEBHOOK_SECRET"}


def test_the_deployment_guide_lists_every_key_that_pods_read() -> None:
    read = set[str]()
    for file in MANIFESTS:
        read |= set(re.findall(r"secretKeyRef: \{ name: keys, key: (\w+)", file.read_text()))
    text = (ROOT / "docs" / "deploy.md").read_text()
    (paragraph,) = [part for part in text.split("\n\n") if "`deploy/secrets/keys.env`" in part]
    named = set(re.findall(r"`([A-Z_]+)`", paragraph))
    assert {key for key in read if not key.endswith("_PREVIOUS")} <= named
    assert named <= read


def test_kustomize_names_every_secret_by_its_content() -> None:
    config = kustomization()
    named = {generator["name"] for generator in config["secretGenerator"]}
    text = "\n".join(file.read_text() for file in MANIFESTS)
    used = re.findall(r"(?:secretName|secretKeyRef: \{ name|secret:\n +name): ([\w-]+)", text)
    assert set(used) <= named
    assert "generatorOptions" not in config


def test_every_file_and_object_that_the_kustomization_names_exists(secrets: Path) -> None:
    config = kustomization()
    assert {DEPLOY / resource for resource in config["resources"]} == set(MANIFESTS)
    named = {"ConfigMap": set[str](), "Secret": set[str]()}
    for kind, generators in (
        ("ConfigMap", config["configMapGenerator"]),
        ("Secret", config["secretGenerator"]),
    ):
        for generator in generators:
            named[kind].add(generator["name"])
            for entry in (*generator.get("files", ()), *generator.get("envs", ())):
                file = entry.rpartition("=")[2]
                path = secrets.parent / file if file.startswith("secrets/") else DEPLOY / file
                assert path.is_file(), file
    text = "\n".join(file.read_text() for file in MANIFESTS)
    used = set(re.findall(r"(?:secretName|secretKeyRef: \{ name): ([\w-]+)", text))
    assert used <= named["Secret"]
    assert (
        set(re.findall(r"(?:configMapRef|configMap): \{ name: ([\w-]+)", text))
        <= named["ConfigMap"]
    )


def test_servers_can_be_applied_without_the_services() -> None:
    # A service that ran before a restore would fill the empty servers.
    text = (ROOT / "docs" / "deploy.md").read_text()
    (names,) = re.findall(r"--selector 'app notin \((.*)\)'", text)
    services = [
        document["metadata"]
        for document in documents()
        if document["kind"] in {"Deployment", "StatefulSet"}
        and document["spec"]["template"]["spec"]["containers"][0]["image"] == "hogsend"
    ]
    assert sorted(names.split(", ")) == sorted(service["name"] for service in services)
    assert all(service["labels"]["app"] == service["name"] for service in services)


def test_the_image_sets_variables_that_are_settings() -> None:
    text = (ROOT / "Dockerfile").read_text()
    settings = {
        name for group in (GatewaySettings, TelemetrySettings) for name in group.environment_names()
    }
    for name in ("GATEWAY_HOST", "SPOOL_DIR", "HEALTH_FILE", "ALIVE_FILE"):
        assert name in settings
        assert f"{name}=" in text
        if name in IMAGE and name != "ALIVE_FILE":
            assert f"{name}={IMAGE[name]}" in text
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["single", "cluster", "cluster-accounts"])
def test_nats_detects_a_vanished_client_within_half_a_minute(name: str) -> None:
    config = (ROOT / "deploy" / "nats" / f"{name}.conf").read_text()
    interval = re.search(r'^ping_interval: "(\d+)s"$', config, re.MULTILINE)
    assert interval is not None
    # The server closes a connection when two pings got no pong and the next ping is due.
    assert int(interval[1]) * 3 <= 30
    assert "ping_max" not in config


def test_nats_accepts_every_webhook_that_the_gateway_accepts() -> None:
    largest = GatewaySettings.model_fields["webhook_max_bytes"].default
    assert largest + HEADERS_BYTES <= nats_server.MAX_PAYLOAD_BYTES


@pytest.mark.parametrize("name", ["single", "cluster", "cluster-accounts"])
def test_nats_server_accepts_the_configuration(name: str, secrets: Path) -> None:
    _check_configuration(_with_passwords(name, secrets))


@pytest.mark.parametrize("name", ["single", "cluster", "cluster-accounts"])
def test_nats_server_accepts_passwords_without_the_renamed_user(name: str, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    generate(secrets)
    passwords = secrets / "nats" / "passwords.conf"
    lines = passwords.read_text().splitlines(keepends=True)
    passwords.chmod(0o600)
    passwords.write_text("".join(line for line in lines if not line.startswith("PASSWORD_APP")))
    _check_configuration(_with_passwords(name, secrets))


def _check_configuration(file: Path) -> None:
    subprocess.run(
        [str(nats_server.BINARY), "-t", "-c", str(file)],
        env={**os.environ, "SERVER_NAME": "nats", "MAX_FILE_STORE": "11GB"},
        check=True,
        capture_output=True,
    )


def test_the_storage_of_nats_fits_the_streams_and_is_smaller_than_its_volume() -> None:
    services = compose()["services"]
    allowed = [services[name]["environment"]["MAX_FILE_STORE"] for name in ("nats", "nats-2")]
    (stateful,) = [
        each
        for each in documents()
        if "volumeClaimTemplates" in each.get("spec", {}) and each["metadata"]["name"] == "nats"
    ]
    variables = {each["name"]: each for each in pods(stateful)["containers"][0]["env"]}
    allowed.append(variables["MAX_FILE_STORE"]["value"])
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    volume = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))
    for text in allowed:
        gibibytes = int(re.findall(r"(\d+)GB", text)[0])
        assert nats_server.max_file_store(DEFAULT_LIMITS) <= gibibytes * GIB
        assert gibibytes < volume


def _with_passwords(name: str, secrets: Path) -> Path:
    """Copy a configuration and its passwords into one directory, as in the containers."""
    directory = secrets.parent / "etc"
    (directory / "secrets").mkdir(parents=True, exist_ok=True)
    for file in ("passwords.conf", "cluster.conf"):
        (directory / "secrets" / file).write_text((secrets / "nats" / file).read_text())
    config = directory / f"{name}.conf"
    config.write_text((DEPLOY / "nats" / config.name).read_text())
    return config


def test_secrets_are_generated_once_for_every_user_and_are_private_to_their_owner(
    secrets: Path,
) -> None:
    for user in User:
        assert (secrets / user / "nats_password").is_file()
    words = [file.read_text() for file in secrets.rglob("nats_password")]
    assert len(set(words)) == len(User)
    assert all(re.fullmatch(r"s[0-9a-f]{48}\n", word) for word in words)
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    before = {file: file.read_text() for file in secrets.rglob("*") if file.is_file()}
    assert "nothing to do" in generate(secrets)
    assert {file: file.read_text() for file in secrets.rglob("*") if file.is_file()} == before


def test_containers_may_read_configuration_that_was_checked_out_with_a_strict_umask(
    tmp_path: Path,
) -> None:
    deploy = tmp_path / "deploy"
    for name in ("nats/start.sh", "grafana/provisioning/dashboards.yaml", "tls/key.pem"):
        (deploy / name).parent.mkdir(parents=True, exist_ok=True)
        (deploy / name).touch(mode=0o600)
    for directory in (deploy / "nats", deploy / "grafana" / "provisioning", deploy / "tls"):
        directory.chmod(0o700)
    for name in ("generate_secrets.py", "secrets_directory.py", "settings_files.py"):
        shutil.copy(DEPLOY / name, deploy)
    script = deploy / "generate_secrets.py"
    subprocess.run([sys.executable, "-S", str(script)], check=True, capture_output=True)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in deploy.rglob("*")}
    for name in ("nats/start.sh", "grafana/provisioning/dashboards.yaml"):
        assert modes[deploy / name] == 0o644
        assert modes[(deploy / name).parent] == 0o755
    # The operator decides who may read the key.
    assert (modes[deploy / "tls"], modes[deploy / "tls" / "key.pem"]) == (0o755, 0o600)
    assert modes[deploy / "secrets"] == 0o700


def test_secrets_of_a_renamed_user_are_kept_and_those_of_the_new_user_added(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    generate(directory)
    member = (directory / "member" / "nats_password").read_text().strip()
    # The previous version wrote no files for `app`.
    (directory / "app" / "nats_password").unlink()
    (directory / "app.env").unlink()
    generate(directory)
    assert (directory / "member" / "nats_password").read_text().strip() == member
    app = (directory / "app" / "nats_password").read_text().strip()
    assert app != member
    passwords = (directory / "nats" / "passwords.conf").read_text()
    assert f'PASSWORD_MEMBER: "{member}"\n' in passwords
    assert f'PASSWORD_APP: "{app}"\n' in passwords
    address = "127.0.0.1:4222"
    app_env = (directory / "app.env").read_text()
    assert app_env == nats_server.env_file_lines(User.APP, app, address)
    member_env = (directory / "member.env").read_text()
    member_lines = nats_server.env_file_lines(User.MEMBER, member, address)
    assert member_env == f"# Deprecated: use app.env\n{member_lines}"


def test_a_deleted_secret_is_generated_again_wherever_it_is_used(tmp_path: Path) -> None:
    directory = tmp_path / "s"
    generate(directory, "--postgres", "db.internal", "--published", "bus.example:4222")
    url = (directory / "ingest" / "database_url").read_text()
    assert re.fullmatch(r"postgresql://ingest:s[0-9a-f]{48}@db\.internal:5432/hogsend\n", url)
    (directory / "subscriber" / "nats_password").unlink()
    generate(directory, "--postgres", "db.internal", "--published", "bus.example:4222")
    word = (directory / "subscriber" / "nats_password").read_text().strip()
    assert word in (directory / "nats" / "passwords.conf").read_text()
    subscriber_env = (directory / "subscriber.env").read_text()
    assert subscriber_env == nats_server.env_file_lines(User.SUBSCRIBER, word, "bus.example:4222")
    assert (directory / "ingest" / "database_url").read_text() == url


def test_generated_secrets_are_excluded_from_git_and_the_docker_build() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/deploy/secrets/" in ignored
    assert (ROOT / ".dockerignore").read_text().startswith("*\n")
