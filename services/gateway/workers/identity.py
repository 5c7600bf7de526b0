"""Which worker this process is, and its share of the gateway's limits."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from hogsend.contract.errors import CannotStart
from hogsend.service.settings.shared import TelemetrySettings
from services.gateway.settings import GatewaySettings

NUMBER = "HOGSEND_WORKER"
"""Environment variable: the worker's number, from 1."""
LINK = "HOGSEND_WORKER_FD"
"""Environment variable: descriptor of the socket to the parent."""
PORT = "HOGSEND_WORKER_PORT_FD"
"""Environment variable: descriptor of the socket that reserves the gateway's port."""


@dataclass(frozen=True)
class WorkerIdentity:
    """The number and the sockets that the parent passed to this worker."""

    number: int
    link: socket.socket
    """Socket to the parent."""
    port: socket.socket
    """Socket that reserves the gateway's port; `listener.join` listens on the same port."""


def is_worker(environment: Mapping[str, str]) -> bool:
    """Whether a parent started this process."""
    return NUMBER in environment


def worker_identity(environment: Mapping[str, str]) -> WorkerIdentity | None:
    """Read which worker this process is. Return None for a gateway of one process.

    Raises:
        CannotStart: the variables were not set by a parent.
    """
    if not is_worker(environment):
        return None
    try:
        number, link, port = (int(environment.get(name, "")) for name in (NUMBER, LINK, PORT))
        return WorkerIdentity(number, socket.socket(fileno=link), socket.socket(fileno=port))
    except (OSError, ValueError) as error:
        raise CannotStart(
            f"{NUMBER}, {LINK} and {PORT} are the gateway's own: leave them unset"
        ) from error


def worker_settings(settings: GatewaySettings) -> GatewaySettings:
    """Return the settings with one worker's share of the limits that apply to all workers.

    The liveness port is 0, because the parent listens on it.
    """
    workers = settings.gateway_workers
    return settings.model_copy(
        update={
            "spool_max_bytes": -(-settings.spool_max_bytes // workers),
            "gateway_max_connections": -(-settings.gateway_max_connections // workers),
            "gateway_liveness_port": 0,
        }
    )


def worker_telemetry(observed: TelemetrySettings) -> TelemetrySettings:
    """Return the settings without metrics port and health file, which the parent serves."""
    return observed.model_copy(update={"metrics_port": 0, "health_file": None})
