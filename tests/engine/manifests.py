"""What the manifests of deploy/kubernetes say of pods, as far as a container engine can do it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import yaml


class Part(msgspec.Struct, rename="camel", frozen=True):
    """One part of a manifest; what has no field here is for Kubernetes alone."""


class Named(Part, frozen=True):
    """A reference, or metadata."""

    name: str


class KeyRef(Part, frozen=True):
    """One key of a secret."""

    name: str
    key: str
    optional: bool = False


class FieldRef(Part, frozen=True):
    """A field of the pod itself."""

    field_path: str


class ValueFrom(Part, frozen=True):
    """Where the value of a variable is."""

    secret_key_ref: KeyRef | None = None
    field_ref: FieldRef | None = None


class Variable(Part, frozen=True):
    """One environment variable."""

    name: str
    value: str = ""
    value_from: ValueFrom | None = None


class EnvFrom(Part, frozen=True):
    """Variables of a config map."""

    config_map_ref: Named


class Exec(Part, frozen=True):
    """A command inside the container."""

    command: list[str]


class HttpGet(Part, frozen=True):
    """A request from outside."""

    path: str
    port: str


class Probe(Part, frozen=True):
    """How the kubelet asks; times are in seconds."""

    exec: Exec | None = None
    http_get: HttpGet | None = None
    period_seconds: int = 10
    timeout_seconds: int = 1
    failure_threshold: int = 3


class PreStop(Part, frozen=True):
    """What is run before SIGTERM."""

    exec: Exec


class Lifecycle(Part, frozen=True):
    """What is run around a container's life."""

    pre_stop: PreStop


class Port(Part, frozen=True):
    """A port of a container."""

    name: str
    container_port: int


class Limits(Part, frozen=True):
    """What a container may take at most."""

    memory: str


class Resources(Part, frozen=True):
    """What a container may take."""

    limits: Limits


class Capabilities(Part, frozen=True):
    """Which of root's rights a container has."""

    drop: list[str] = []
    add: list[str] = []


class ContainerSecurity(Part, frozen=True):
    """What a container may do."""

    allow_privilege_escalation: bool
    read_only_root_filesystem: bool
    capabilities: Capabilities


class Mount(Part, frozen=True):
    """Where a volume is inside a container."""

    name: str
    mount_path: str
    sub_path: str = ""
    read_only: bool = False


class Container(Part, frozen=True):
    """One container of a pod."""

    name: str
    image: str
    resources: Resources
    security_context: ContainerSecurity
    startup_probe: Probe
    readiness_probe: Probe
    liveness_probe: Probe
    command: list[str] = []
    args: list[str] = []
    env: list[Variable] = []
    env_from: list[EnvFrom] = []
    ports: list[Port] = []
    lifecycle: Lifecycle | None = None
    volume_mounts: list[Mount] = []


class EmptyDir(Part, frozen=True):
    """A directory that goes with the pod."""

    medium: str = ""
    size_limit: str = ""


class SecretVolume(Part, frozen=True):
    """The files of a secret."""

    secret_name: str


class Item(Part, frozen=True):
    """One key of a source, and its path."""

    key: str
    path: str


class Source(Part, frozen=True):
    """Files of a config map or of a secret; all of them when no items are named."""

    name: str
    items: list[Item] = []


class Projection(Part, frozen=True):
    """One source of a projected volume."""

    config_map: Source | None = None
    secret: Source | None = None


class Projected(Part, frozen=True):
    """Files of several sources in one directory."""

    sources: list[Projection]


class Volume(Part, frozen=True):
    """One volume of a pod."""

    name: str
    empty_dir: EmptyDir | None = None
    secret: SecretVolume | None = None
    projected: Projected | None = None


class PodSecurity(Part, frozen=True):
    """Who the processes of a pod are."""

    run_as_user: int
    run_as_group: int
    fs_group: int


class PodSpec(Part, frozen=True):
    """One pod; each of ours has one container."""

    containers: tuple[Container]
    security_context: PodSecurity
    termination_grace_period_seconds: int
    volumes: list[Volume] = []


class Template(Part, frozen=True):
    """What every pod of a workload is made of."""

    spec: PodSpec


class Claim(Part, frozen=True):
    """A disk of its own for each pod."""

    metadata: Named


class WorkloadSpec(Part, frozen=True):
    """What a workload runs."""

    replicas: int
    template: Template
    service_name: str = ""
    volume_claim_templates: list[Claim] = []


class Workload(Part, frozen=True):
    """A Deployment or a StatefulSet."""

    metadata: Named
    spec: WorkloadSpec

    @property
    def pods(self) -> list[str]:
        """Names of its pods, as a StatefulSet gives them."""
        return [f"{self.metadata.name}-{number}" for number in range(self.spec.replicas)]


class Manifests:
    """Everything that `kubectl kustomize deploy` prints."""

    def __init__(self, text: str) -> None:
        """Read the workloads, config maps and secrets."""
        documents: Iterable[dict[str, Any]] = yaml.safe_load_all(text)
        self.workloads: dict[str, Workload] = {}
        self._files: dict[tuple[str, str], Mapping[str, str]] = {}
        for one in documents:
            kind, name = one["kind"], one["metadata"]["name"]
            if kind in {"Deployment", "StatefulSet"}:
                self.workloads[name] = msgspec.convert(one, Workload)
            elif kind == "ConfigMap":
                self._files[kind, name] = one["data"]
            elif kind == "Secret":
                decoded = {key: _decoded(word) for key, word in (one.get("data") or {}).items()}
                self._files[kind, name] = decoded

    def variables(self, container: Container, pod: str) -> Mapping[str, str]:
        """The environment of a container, as its pod gets it.

        Raises:
            KeyError: something that is not optional is not there.
        """
        found = dict[str, str]()
        for one in container.env_from:
            found |= self._files["ConfigMap", one.config_map_ref.name]
        for variable in container.env:
            source = variable.value_from
            if source is None:
                found[variable.name] = variable.value
            elif source.field_ref is not None:
                found[variable.name] = {"metadata.name": pod}[source.field_ref.field_path]
            elif source.secret_key_ref is not None:
                wanted = source.secret_key_ref
                secret = self._files["Secret", wanted.name]
                if wanted.key in secret or not wanted.optional:
                    found[variable.name] = secret[wanted.key]
        return found

    def files(self, volume: Volume) -> Mapping[str, str]:
        """The files of a volume of secrets and config maps, by path."""
        if volume.secret is not None:
            return self._files["Secret", volume.secret.secret_name]
        found = dict[str, str]()
        for one in volume.projected.sources if volume.projected else ():
            for kind, source in (("ConfigMap", one.config_map), ("Secret", one.secret)):
                if source is not None:
                    content = self._files[kind, source.name]
                    items = source.items or [Item(key, key) for key in content]
                    found |= {item.path: content[item.key] for item in items}
        return found


def _decoded(word: str) -> str:
    return base64.b64decode(word).decode()
