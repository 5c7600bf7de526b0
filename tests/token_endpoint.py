"""A token endpoint on this machine that rotates, counts, and can be held back."""

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
class Asked:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    form: dict[str, str]


@dataclass
class TokenServer:
    """What is answered, and what was asked."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    status: int = 200
    answer: dict[str, Any] | bytes | None = None
    """None rotates: the n-th answer holds `pha_n`, `phr_n` and an hour."""
    go_on: threading.Event = field(default_factory=threading.Event)
    """Cleared, it holds every answer back."""

    def respond(self, asked: Asked) -> tuple[int, bytes]:
        """Note a request and say what to answer."""
        self.asked.append(asked)
        number = len(self.asked)
        self.go_on.wait(30)
        answer = self.answer
        if answer is None:
            answer = {
                "access_token": f"pha_{number}",
                "refresh_token": f"phr_{number}",
                "expires_in": 3600,
            }
        return self.status, answer if isinstance(answer, bytes) else msgspec.json.encode(answer)


@contextmanager
def token_server() -> Iterator[TokenServer]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked = Asked(self.path, dict(self.headers), dict(parse_qsl(body)))
            status, answer = state.respond(asked)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            if 300 <= status < 400:
                self.send_header("Location", f"{state.url}elsewhere")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = TokenServer(f"http://127.0.0.1:{server.server_port}/oauth/token/")
    state.go_on.set()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
