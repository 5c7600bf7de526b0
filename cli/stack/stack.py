"""A stack on this machine: its parts, and the URLs, files and keys to use it with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.bus_address import USERS_WITH_FILE, file_of
from cli.stack import nats
from cli.stack.data_directory import DataDirectory, write_private
from cli.stack.settings import StackSettings
from cli.stack.supervisor import Program, Supervisor
from hogsend.contract.users import DEPRECATED_USERS, User
from hogsend.urls import reached_at
from services.gateway.settings import GatewaySettings


@dataclass
class Stack:
    """The parts of a stack, and its addresses once it runs."""

    home: DataDirectory
    gateway: GatewaySettings
    settings: StackSettings
    supervisor: Supervisor
    extra_programs: Sequence[Program] = ()
    """Programs to start before everything else."""
    directory: Path = field(default_factory=Path.cwd)
    """Working directory of the services, where they read `.env`."""
    nats: str = ""
    """Where NATS is, as text for the summary."""
    database: str = ""
    """How to reach the database, as text for the summary."""

    @property
    def base_url(self) -> str:
        """URL of the gateway on this machine."""
        return f"http://{reached_at(self.gateway.gateway_host, self.gateway.gateway_port)}"

    @property
    def admin_key(self) -> str:
        """Key for `/v1/admin/*`: ADMIN_API_KEY, else the generated one."""
        return os.environ.get("ADMIN_API_KEY") or self.home.secret("admin-api-key")

    def nats_url(self, user: User) -> str:
        """Return the URL of the embedded NATS server for a NATS user, with its password."""
        return nats.url(user, self.home.secret(f"nats-{user}"), self.settings.nats_port)

    def env_file(self, user: User) -> Path:
        """Return the file with the NATS URL of a user, for services outside the stack."""
        return self.home.path / file_of(user)

    def write_env_files(self) -> None:
        """Write the env file of every NATS user that is not one of Hogsend's services."""
        for user in USERS_WITH_FILE:
            current = DEPRECATED_USERS.get(user)
            note = f"# Deprecated: use {current}.env\n" if current else ""
            password, port = self.home.secret(f"nats-{user}"), self.settings.nats_port
            lines = nats.env_file_lines(user, password, f"127.0.0.1:{port}")
            write_private(self.env_file(user), f"{note}{lines}")
