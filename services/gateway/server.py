"""The HTTP server: Granian's, on a socket of ours."""

from __future__ import annotations

import socket
from collections.abc import Callable

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from litestar.types import ASGIApp

from services.gateway.listener import BACKLOG, connection_limit
from services.gateway.request_timeouts import http1_settings
from services.gateway.settings import GatewaySettings


class ListeningServer(Server):
    """Granian's embedded server on a socket that is open already."""

    listening: Callable[[], socket.socket]
    """Gives it when it begins to serve; to be set before."""

    def _init_shared_socket(self) -> None:
        # Descriptor, whether it is a Unix socket, backlog: what Granian gives its own processes.
        self._open = self.listening()
        self._shd = SocketHolder(self._open.fileno(), False, BACKLOG)  # type: ignore[call-arg,assignment] # noqa: FBT003
        self._ssp = None


def make_server(app: ASGIApp, settings: GatewaySettings) -> ListeningServer:
    """Make the HTTP server; its socket is still to be given to it."""
    return ListeningServer(
        app,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        http1_settings=http1_settings(settings.http_request_timeout_seconds),
        backpressure=connection_limit(settings.gateway_max_connections),
        websockets=False,
        log_enabled=False,
    )
