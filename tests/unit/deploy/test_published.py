"""The published ports of a deployment are reached at their address, without a proxy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from cli.deployment import rolling_upgrade
from cli.deployment.compose import COMMAND, Compose
from cli.local_http import local_http

READY = {"ready": True, "spooled": 0}


@pytest.mark.parametrize(
    ("printed", "reached"),
    [
        ("127.0.0.1:4222", "127.0.0.1:4222"),
        ("0.0.0.0:4222", "127.0.0.1:4222"),
        ("[::]:4222", "[::1]:4222"),
        (":::4222", "[::1]:4222"),
        ("[fd00::5]:4222", "[fd00::5]:4222"),
        ("10.0.0.5:14222", "10.0.0.5:14222"),
    ],
)
def test_a_port_is_reached_at_the_address_it_is_published_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, reached: str
) -> None:
    (tmp_path / "compose.yaml").touch()
    command = tmp_path / "compose"
    command.write_text(
        f'#!/bin/sh\n[ "$*" = "--profile cluster port nats 4222" ] && echo "{printed}"\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv(COMMAND, str(command))
    assert Compose(tmp_path).published("nats", 4222) == reached


@pytest.fixture
def gateway() -> Iterator[str]:
    """An HTTP server that responds as `/readyz` of a gateway does."""

    class ReadyHandler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(READY).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), ReadyHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_gateway_on_this_machine_is_called_without_the_proxy_of_the_environment(
    gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert rolling_upgrade._get(f"{gateway}/readyz") == READY

    async def get() -> object:
        async with local_http(gateway) as http:
            return (await http.get("/readyz")).json()

    assert asyncio.run(get()) == READY
