"""The HTTP server: Granian, listening on a socket that the gateway opens."""

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
    """Granian's embedded server on a socket that it does not open itself."""

    listening: Callable[[], socket.socket]
    """Returns the listening socket. Set it before `serve`, which calls it."""

    def _init_shared_socket(self) -> None:
        # Descriptor, whether it is a Unix socket, and backlog, as Granian's own workers get them.
        self._open = self.listening()
        self._shd = SocketHolder(self._open.fileno(), False, BACKLOG)  # type: ignore[call-arg,assignment] # noqa: FBT003
        self._ssp = None


def make_server(app: ASGIApp, settings: GatewaySettings) -> ListeningServer:
    """Create the HTTP server. The caller then sets `listening`."""
    return ListeningServer(
        app,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        http1_settings=http1_settings(settings.http_request_timeout_seconds),
        backpressure=connection_limit(settings.gateway_max_connections),
        websockets=False,
        log_enabled=False,
    )
