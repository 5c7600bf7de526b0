"""Which worker a process is, and what one of them may have."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from hogsend.contract.errors import CannotStart
from hogsend.service.settings.shared import TelemetrySettings
from services.gateway.settings import GatewaySettings

NUMBER = "HOGSEND_WORKER"
"""Variable with a worker's number, from 1."""
LINK = "HOGSEND_WORKER_FD"
"""Variable with the descriptor of its socket to the parent."""
PORT = "HOGSEND_WORKER_PORT_FD"
"""Variable with the descriptor of the socket that has the gateway's port."""


@dataclass(frozen=True)
class Place:
    """Which worker this process is."""

    number: int
    link: socket.socket
    """To the parent."""
    port: socket.socket
    """What `join` needs to listen."""


def is_worker(environment: Mapping[str, str]) -> bool:
    """Whether a parent started this process."""
    return NUMBER in environment


def place_of(environment: Mapping[str, str]) -> Place | None:
    """Say which worker this process is; None where it is the whole gateway.

    Raises:
        CannotStart: what the parent says is not what it would say.
    """
    if not is_worker(environment):
        return None
    try:
        number, link, port = (int(environment.get(name, "")) for name in (NUMBER, LINK, PORT))
        return Place(number, socket.socket(fileno=link), socket.socket(fileno=port))
    except (OSError, ValueError) as error:
        raise CannotStart(
            f"{NUMBER}, {LINK} and {PORT} are the gateway's own: leave them unset"
        ) from error


def share_of(settings: GatewaySettings) -> GatewaySettings:
    """Give what one worker may have of what all of them together may have.

    The liveness port is the parent's.
    """
    workers = settings.gateway_workers
    return settings.model_copy(
        update={
            "spool_max_bytes": -(-settings.spool_max_bytes // workers),
            "gateway_max_connections": -(-settings.gateway_max_connections // workers),
            "gateway_liveness_port": 0,
        }
    )


def without_ports(observed: TelemetrySettings) -> TelemetrySettings:
    """Leave to the parent what it shows for all of them: metrics, and the health file."""
    return observed.model_copy(update={"metrics_port": 0, "health_file": None})
