"""The parts of the manifests of deploy/kubernetes that a container engine can apply."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import yaml


class Part(msgspec.Struct, rename="camel", frozen=True):
    """One part of a manifest; settings without a field here concern Kubernetes alone."""


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
    """The source of a variable's value."""

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
    """An HTTP request to a port of the container."""

    path: str
    port: str


class Probe(Part, frozen=True):
    """A probe of the kubelet; times are in seconds."""

    exec: Exec | None = None
    http_get: HttpGet | None = None
    period_seconds: int = 10
    timeout_seconds: int = 1
    failure_threshold: int = 3


class PreStop(Part, frozen=True):
    """The command that runs before SIGTERM."""

    exec: Exec


class Lifecycle(Part, frozen=True):
    """The hooks of a container."""

    pre_stop: PreStop


class Port(Part, frozen=True):
    """A port of a container."""

    name: str
    container_port: int


class Limits(Part, frozen=True):
    """Resource limits of a container."""

    memory: str


class Resources(Part, frozen=True):
    """Resources of a container."""

    limits: Limits


class Capabilities(Part, frozen=True):
    """Linux capabilities that a container drops and adds."""

    drop: list[str] = []
    add: list[str] = []


class ContainerSecurity(Part, frozen=True):
    """Security settings of a container."""

    allow_privilege_escalation: bool
    read_only_root_filesystem: bool
    capabilities: Capabilities


class Mount(Part, frozen=True):
    """A volume mounted into a container."""

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
    """A volume with the files of a secret."""

    secret_name: str


class Item(Part, frozen=True):
    """One key of a source, and its path in the volume."""

    key: str
    path: str


class Source(Part, frozen=True):
    """Files of a config map or of a secret: those in `items`, or all if it is empty."""

    name: str
    items: list[Item] = []


class Projection(Part, frozen=True):
    """One source of a projected volume."""

    config_map: Source | None = None
    secret: Source | None = None


class Projected(Part, frozen=True):
    """A volume with the files of several sources."""

    sources: list[Projection]


class Volume(Part, frozen=True):
    """One volume of a pod."""

    name: str
    empty_dir: EmptyDir | None = None
    secret: SecretVolume | None = None
    projected: Projected | None = None


class PodSecurity(Part, frozen=True):
    """User and groups of the processes of a pod."""

    run_as_user: int
    run_as_group: int
    fs_group: int


class PodSpec(Part, frozen=True):
    """One pod; each of Hogsend's pods has one container."""

    containers: tuple[Container]
    security_context: PodSecurity
    termination_grace_period_seconds: int
    volumes: list[Volume] = []


class Template(Part, frozen=True):
    """The template for the pods of a workload."""

    spec: PodSpec


class Claim(Part, frozen=True):
    """A claim for a persistent volume, one for each pod."""

    metadata: Named


class WorkloadSpec(Part, frozen=True):
    """The pods of a workload."""

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
        """Names of the pods, as a StatefulSet names them."""
        return [f"{self.metadata.name}-{number}" for number in range(self.spec.replicas)]


class Manifests:
    """Everything that `kubectl kustomize deploy` prints."""

    def __init__(self, text: str) -> None:
        """Read the workloads, config maps and secrets."""
        documents: Iterable[dict[str, Any]] = yaml.safe_load_all(text)
        self.workloads: dict[str, Workload] = {}
        self._files: dict[tuple[str, str], Mapping[str, str]] = {}
        for document in documents:
            kind, name = document["kind"], document["metadata"]["name"]
            if kind in {"Deployment", "StatefulSet"}:
                self.workloads[name] = msgspec.convert(document, Workload)
            elif kind == "ConfigMap":
                self._files[kind, name] = document["data"]
            elif kind == "Secret":
                data = document.get("data") or {}
                decoded = {key: _decoded(word) for key, word in data.items()}
                self._files[kind, name] = decoded

    def variables(self, container: Container, pod: str) -> Mapping[str, str]:
        """Return the environment of a container in a pod.

        Raises:
            KeyError: a source that is not optional does not exist.
        """
        variables = dict[str, str]()
        for reference in container.env_from:
            variables |= self._files["ConfigMap", reference.config_map_ref.name]
        for variable in container.env:
            source = variable.value_from
            if source is None:
                variables[variable.name] = variable.value
            elif source.field_ref is not None:
                variables[variable.name] = {"metadata.name": pod}[source.field_ref.field_path]
            elif source.secret_key_ref is not None:
                key_ref = source.secret_key_ref
                secret = self._files["Secret", key_ref.name]
                if key_ref.key in secret or not key_ref.optional:
                    variables[variable.name] = secret[key_ref.key]
        return variables

    def files(self, volume: Volume) -> Mapping[str, str]:
        """Return the files of a volume of secrets and config maps, by path."""
        if volume.secret is not None:
            return self._files["Secret", volume.secret.secret_name]
        files = dict[str, str]()
        for part in volume.projected.sources if volume.projected else ():
            for kind, source in (("ConfigMap", part.config_map), ("Secret", part.secret)):
                if source is not None:
                    content = self._files[kind, source.name]
                    items = source.items or [Item(key, key) for key in content]
                    files |= {item.path: content[item.key] for item in items}
        return files


def _decoded(word: str) -> str:
    return base64.b64decode(word).decode()
