"""A fake OAuth token endpoint: rotates tokens, records requests, and can be stalled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import msgspec


@dataclass
class TokenRequest:
    """One request."""

    path: str
    headers: dict[str, str]
    form: dict[str, str]


@dataclass
class TokenServer:
    """The state of the fake, which tests read and change."""

    url: str
    requests: list[TokenRequest] = field(default_factory=list)
    status: int = 200
    reply: dict[str, Any] | bytes | None = None
    """The body of each response. None rotates the tokens: the n-th response has `pha_n` and
    `phr_n`, which expire in an hour."""
    gate: threading.Event = field(default_factory=threading.Event)
    """Responses wait while it is clear."""

    def respond(self, request: TokenRequest) -> tuple[int, bytes]:
        """Record a request, and return the status and body of its response."""
        self.requests.append(request)
        number = len(self.requests)
        self.gate.wait(30)
        reply = self.reply
        if reply is None:
            reply = {
                "access_token": f"pha_{number}",
                "refresh_token": f"phr_{number}",
                "expires_in": 3600,
            }
        return self.status, reply if isinstance(reply, bytes) else msgspec.json.encode(reply)


@contextmanager
def token_server() -> Iterator[TokenServer]:
    """Serve the endpoint during the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            request = TokenRequest(self.path, dict(self.headers), dict(parse_qsl(body)))
            status, reply = state.respond(request)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            if 300 <= status < 400:
                self.send_header("Location", f"{state.url}elsewhere")
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = TokenServer(f"http://127.0.0.1:{server.server_port}/oauth/token/")
    state.gate.set()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
