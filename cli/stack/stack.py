"""A stack on this machine: its parts, and the addresses, files and keys to reach it with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.stack import nats
from cli.stack.data_directory import DataDirectory, write_private
from cli.stack.settings import StackSettings
from cli.stack.supervisor import Program, Supervisor
from hogsend.contract.users import DEPRECATED_USERS, User
from hogsend.urls import reached_at
from services.gateway.settings import GatewaySettings


@dataclass
class Stack:
    """What is started, and where it can be reached once it is."""

    home: DataDirectory
    gateway: GatewaySettings
    settings: StackSettings
    supervisor: Supervisor
    beside: Sequence[Program] = ()
    """Programs that are started before everything else."""
    directory: Path = field(default_factory=Path.cwd)
    """Working directory of the services, where they look for `.env`."""
    nats: str = ""
    database: str = ""

    @property
    def base_url(self) -> str:
        """URL of the gateway, as seen from this machine."""
        return f"http://{reached_at(self.gateway.gateway_host, self.gateway.gateway_port)}"

    @property
    def admin_key(self) -> str:
        """Key for `/v1/admin/*`: the operator's, else the generated one."""
        return os.environ.get("ADMIN_API_KEY") or self.home.secret("admin-api-key")

    def nats_url(self, user: User) -> str:
        """Address of the embedded NATS server for a user, password included."""
        return nats.url(user, self.home.secret(f"nats-{user}"), self.settings.nats_port)

    def env_file(self, user: User) -> Path:
        """File with that address and its parts, for the services and people outside the stack."""
        return self.home.path / f"{user}.env"

    def write_env_files(self) -> None:
        """Write one for every user that is not one of our own services."""
        for user in (User.SUBSCRIBER, User.APP, User.OPERATOR, *DEPRECATED_USERS):
            current = DEPRECATED_USERS.get(user)
            note = f"# Deprecated: use {current}.env\n" if current else ""
            password, port = self.home.secret(f"nats-{user}"), self.settings.nats_port
            address = nats.given_apart(user, password, f"127.0.0.1:{port}")
            write_private(self.env_file(user), f"{note}{address}")
