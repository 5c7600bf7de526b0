"""NATS and PostgreSQL from the images that `compose.yaml` deploys, through testcontainers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import docker
import docker.errors
import requests
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from cli.stack import nats
from hogsend.contract.users import User

COMPOSE = Path(__file__).parents[1] / "compose.yaml"
PASSWORD = "password-of-postgres"
WITHOUT_FSYNC = ("-c", "fsync=off", "-c", "full_page_writes=off")
"""Options with which PostgreSQL does not wait for the disk. No test simulates a power failure, and
with fsync creating and dropping a database for each test took two seconds."""

# The reaper would need one more image, and the fixtures stop the containers themselves.
testcontainers_config.ryuk_disabled = True


def image(name: str) -> str:
    """Return the image of a server that `compose.yaml` pins."""
    match = re.search(rf"IMAGE:-({name}:[^}}]+)}}", COMPOSE.read_text())
    assert match is not None
    return match[1]


def available() -> bool:
    """Whether a Docker engine runs and has both images; missing images are not pulled."""
    try:
        engine = docker.from_env(timeout=5)
        try:
            for name in ("nats", "postgres"):
                engine.images.get(image(name))
        finally:
            engine.close()
    except (docker.errors.DockerException, requests.RequestException):
        return False
    return True


@contextmanager
def nats_server(directory: Path, passwords: Mapping[User, str], port: int) -> Iterator[int]:
    """Run nats-server on 127.0.0.1 with our users, and yield its port."""
    config = directory / "nats.conf"
    nats.write_config(config, port=4222, store=Path("/data/jetstream"), passwords=passwords)
    config.write_text(json.dumps({**json.loads(config.read_text()), "listen": "0.0.0.0:4222"}))
    # In the container the server runs as another user.
    directory.chmod(0o755)
    config.chmod(0o644)
    container = (
        DockerContainer(image("nats"))
        .with_command(["nats-server", "--config", "/etc/nats/test.conf"])
        .with_volume_mapping(str(config), "/etc/nats/test.conf", "ro")
    )
    _publish(container, 4222, port)
    with container:
        yield port


@contextmanager
def postgres(port: int) -> Iterator[str]:
    """Run PostgreSQL on 127.0.0.1 with a database `hogsend`, and yield its URL."""
    container = (
        DockerContainer(image("postgres"))
        .with_env("POSTGRES_PASSWORD", PASSWORD)
        .with_env("POSTGRES_DB", "hogsend")
        .with_command(["postgres", *WITHOUT_FSYNC])
    )
    _publish(container, 5432, port)
    with container:
        yield f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/hogsend"


def _publish(container: DockerContainer, inside: int, port: int) -> None:
    # Not `with_bind_ports`, which publishes the port on all addresses of the machine.
    container.ports[f"{inside}/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment]
