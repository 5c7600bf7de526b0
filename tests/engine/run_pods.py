"""Runs the pods of deploy/kubernetes on a container engine, as `kubectl apply` would in a cluster.

python -m tests.engine.run_pods WORK

Every pod is a container with the settings of its manifest: user and groups, root file system,
capabilities, memory, variables, files, disks, probes, and the grace period. Its files are links
into a directory with a date, as the kubelet writes them. First everything starts and every probe
must succeed. Then one pod after the other is replaced, as in a rollout, while webhooks arrive. No
webhook may be refused, and all must be stored and published. Not tested here: network policies,
disruption budgets, the scheduler, and everything else inside Kubernetes. Needs kubectl.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from cli.deployment.compose import Compose
from tests.engine import load
from tests.engine.checkout import GATEWAY, GATEWAY_2, ROOT, Checkout, blocks, say
from tests.engine.manifests import Container, Manifests, Mount, PodSpec, Probe, Volume, Workload

DOCUMENT = ROOT / "docs" / "deploy.md"
NETWORK = "hogsend-pods"
ORDER = ("nats", "postgres", "credentials", "provisioner", "ingest", "analytics", "gateway")
PUBLISHED = {
    ("gateway-0", "http"): GATEWAY,
    ("gateway-1", "http"): GATEWAY_2,
    ("nats-0", "client"): "http://127.0.0.1:4222",
}
"""Ports that are published at their usual addresses; other ports get any free address."""
SECRET = "a-secret-that-posthog-sends"


class Pods(Compose):
    """The pods, with the interface of a Compose deployment that `load.verify` needs."""

    def __init__(self, directory: Path, manifests: Manifests) -> None:
        super().__init__(directory)
        self._manifests = manifests
        self._files = directory.parent / "files"

    def run(self, *arguments: str, **_: Any) -> str:
        """Run the commands of `load.verify` in the first pod of a service."""
        match arguments:
            case ["exec", "-T", service, *command]:
                return _docker("exec", f"{service}-0", *command)
            case ["--profile", "cluster", "port", service, port]:
                return _docker("port", f"{service}-0", f"{port}/tcp").splitlines()[0]
        raise ValueError(arguments)

    def remove(self) -> None:
        """Remove the pods, their network, volumes and files of an earlier run."""
        for workload in self._manifests.workloads.values():
            for pod in workload.pods:
                _docker("rm", "--force", "--volumes", pod, check=False)
                for claim in workload.spec.volume_claim_templates:
                    name = f"{claim.metadata.name}-{pod}"
                    _docker("volume", "rm", "--force", name, check=False)
        _docker("network", "rm", NETWORK, check=False)
        shutil.rmtree(self._files, ignore_errors=True)

    def start(self, workload: Workload, pod: str) -> None:
        """Start one pod."""
        spec = workload.spec.template.spec
        (container,) = spec.containers
        words = [
            *("run", "--detach", "--name", pod, "--hostname", pod, "--network", NETWORK),
            *("--network-alias", workload.metadata.name),
            *("--network-alias", f"{pod}.{workload.spec.service_name}"),
            *self._security(spec, container),
            *self._ports(container, pod),
        ]
        for name, value in self._manifests.variables(container, pod).items():
            words += ["--env", f"{name}={value}"]
        for mount in container.volume_mounts:
            words += self._mount(spec, mount, pod)
        if container.command:
            words += ["--entrypoint", container.command[0]]
        _docker(*words, container.image, *container.command[1:], *container.args)

    def stop(self, workload: Workload, pod: str) -> None:
        """Stop one pod as the kubelet does; its volumes remain."""
        spec = workload.spec.template.spec
        (container,) = spec.containers
        started_at = time.monotonic()
        if container.lifecycle is not None:
            _docker("exec", pod, *container.lifecycle.pre_stop.exec.command)
        _docker("stop", "--time", str(spec.termination_grace_period_seconds), pod)
        code = _docker("inspect", "--format", "{{.State.ExitCode}}", pod)
        say(f"{pod} stopped with {code} in {time.monotonic() - started_at:.1f} s")
        if code == "137":
            raise SystemExit(f"{pod} had to be killed")
        _docker("rm", pod)

    def wait(self, workload: Workload, pod: str) -> None:
        """Wait until the startup probe succeeds; the other two must then succeed too."""
        (container,) = workload.spec.template.spec.containers
        startup = container.startup_probe
        started_at = time.monotonic()
        for _ in range(startup.failure_threshold):
            if self._succeeds(startup, container, pod):
                break
            time.sleep(startup.period_seconds)
        else:
            raise SystemExit(f"{pod} does not start:\n{_docker('logs', '--tail', '20', pod)}")
        say(f"{pod} started in {time.monotonic() - started_at:.1f} s")
        for probe in (container.readiness_probe, container.liveness_probe):
            if not any(
                self._succeeds(probe, container, pod) for _ in range(probe.failure_threshold)
            ):
                raise SystemExit(f"{pod} fails the probe {probe}")

    def _security(self, spec: PodSpec, container: Container) -> Sequence[str]:
        pod, own = spec.security_context, container.security_context
        words = [
            *("--user", f"{pod.run_as_user}:{pod.run_as_group}"),
            *("--group-add", str(pod.fs_group)),
            *("--memory", _bytes(container.resources.limits.memory)),
        ]
        words += [word for name in own.capabilities.drop for word in ("--cap-drop", name)]
        words += [word for name in own.capabilities.add for word in ("--cap-add", name)]
        if own.read_only_root_filesystem:
            words.append("--read-only")
        if not own.allow_privilege_escalation:
            words += ["--security-opt", "no-new-privileges"]
        return words

    def _ports(self, container: Container, pod: str) -> Sequence[str]:
        words = list[str]()
        for port in container.ports:
            address = PUBLISHED.get((pod, port.name), "http://127.0.0.1:").removeprefix("http://")
            words += ["--publish", f"{address}:{port.container_port}"]
        return words

    def _mount(self, spec: PodSpec, mount: Mount, pod: str) -> Sequence[str]:
        mode = ":ro" if mount.read_only else ""
        volume = next((each for each in spec.volumes if each.name == mount.name), None)
        group = spec.security_context.fs_group
        if volume is None:
            name = f"{mount.name}-{pod}"
            self._set_group(name, group, spec.containers[0].image)
            return ["--volume", f"{name}:{mount.mount_path}{mode}"]
        if volume.empty_dir is not None:
            size = volume.empty_dir.size_limit
            options = f":mode=1777{f',size={_bytes(size)}' if size else ''}"
            return ["--tmpfs", f"{mount.mount_path}{options}"]
        directory = self._write_files(volume, pod, group)
        source = (directory / mount.sub_path).resolve() if mount.sub_path else directory
        return ["--volume", f"{source}:{mount.mount_path}{mode}"]

    def _set_group(self, volume: str, group: int, image: str) -> None:
        """Create a volume that belongs to the pod's group, as with `fsGroup`."""
        _docker("volume", "create", volume)
        _docker(
            *("run", "--rm", "--user", "0:0", "--entrypoint", "sh", "--volume", f"{volume}:/disk"),
            *(image, "-c", f"chown 0:{group} /disk && chmod 2775 /disk"),
        )

    def _write_files(self, volume: Volume, pod: str, group: int) -> Path:
        directory = self._files / pod / volume.name
        dated = directory / "..2026_01_01"
        shutil.rmtree(directory, ignore_errors=True)
        for path, text in self._manifests.files(volume).items():
            file = dated / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            shutil.chown(file, 0, group)
            file.chmod(0o644)
        (directory / "..data").symlink_to(dated.name)
        for name in {path.partition("/")[0] for path in self._manifests.files(volume)}:
            (directory / name).symlink_to(f"..data/{name}")
        return directory

    def _succeeds(self, probe: Probe, container: Container, pod: str) -> bool:
        if probe.exec is not None:
            limited = ["timeout", str(probe.timeout_seconds), "docker", "exec", pod]
            command = [*limited, *probe.exec.command]
            return subprocess.run(command, check=False, capture_output=True).returncode == 0
        if probe.http_get is None:
            raise ValueError(probe)
        port = next(each for each in container.ports if each.name == probe.http_get.port)
        address = _docker("port", pod, f"{port.container_port}/tcp").splitlines()[0]
        url = f"http://{address}{probe.http_get.path}"
        try:
            return httpx.get(url, timeout=probe.timeout_seconds).status_code < 400
        except httpx.HTTPError:
            return False


def _docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(
        ["docker", *words], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if check and done.returncode:
        raise SystemExit(f"docker {' '.join(words[:3])} failed: {done.stdout}")
    return done.stdout.strip()


def _bytes(quantity: str) -> str:
    """Convert a quantity of Kubernetes to Docker's notation."""
    return quantity.removesuffix("i").lower()


def main() -> int:
    """Run the manifests."""
    checkout = Checkout(Path(sys.argv[1]).resolve())
    checkout.prepare()
    secrets, *_ = next(
        block for block in blocks(DOCUMENT.read_text()) if block.section == "Kubernetes"
    ).commands
    checkout.bash(f"{secrets}; docker compose build")
    keys = checkout.directory / "deploy" / "secrets" / "keys.env"
    keys.write_text(f"POSTHOG_WEBHOOK_SECRET={SECRET}\n")
    rendered = subprocess.run(
        ["kubectl", "kustomize", "deploy"],
        cwd=checkout.directory,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    manifests = Manifests(rendered)
    pods = Pods(checkout.directory, manifests)
    pods.remove()
    _docker("network", "create", NETWORK, check=False)
    rollout = [
        (manifests.workloads[name], pod) for name in ORDER for pod in manifests.workloads[name].pods
    ]
    for workload, pod in rollout:
        pods.start(workload, pod)
    for workload, pod in rollout:
        pods.wait(workload, pod)
    gateways = ("--to", GATEWAY, "--to", GATEWAY_2)
    with checkout.load("send", *gateways, "--secret", SECRET, "--none-refused"):
        for workload, pod in rollout:
            pods.stop(workload, pod)
            pods.start(workload, pod)
            pods.wait(workload, pod)
    accepted = set(checkout.ledger.read_text().split())
    if asyncio.run(load.verify(accepted, pods)):
        return 1
    pods.remove()
    say("every pod ran with its manifest, and every accepted event was stored and published")
    return 0


if __name__ == "__main__":
    sys.exit(main())
