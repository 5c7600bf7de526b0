"""The gateway's socket: shared only on purpose, with room for thousands of connections."""

from __future__ import annotations

import os
import resource
import socket
from typing import Any, cast

import pytest

from hogsend.contract.errors import CannotStart
from services.gateway.listener import connection_limit, listening_socket
from services.gateway.server import make_server
from services.gateway.settings import GatewaySettings
from tests.ports import free_port


def listen(port: int, *, share: bool = False, **environment: str) -> socket.socket:
    return listening_socket(
        "127.0.0.1", port, share=share, unread_seconds=65, environment=environment
    )


def test_a_port_in_use_is_refused_and_shared_only_on_purpose() -> None:
    port = free_port()
    with listen(port), pytest.raises(CannotStart, match="GATEWAY_SHARE_PORT"):
        listen(port)
    with listen(port, share=True), listen(port, share=True):
        pass
    with listen(port, share=True), pytest.raises(CannotStart, match="in use"):
        listen(port)


def test_a_client_that_does_not_read_is_cut_off_by_the_system() -> None:
    with listen(free_port()) as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 65_000
        # What Linux answers is twice what was asked for.
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 128 * 1024


def test_a_socket_for_another_process_is_not_used() -> None:
    port = free_port()
    with listen(port, LISTEN_FDS="1", LISTEN_PID="1") as listening:
        assert listening.getsockname()[1] == port


@pytest.mark.parametrize("text", ["", "x", "-1", "99999"])
def test_a_supervisor_must_pass_a_listening_socket(text: str) -> None:
    with socket.socket() as unbound:
        descriptor = text or str(os.dup(unbound.fileno()))
    with pytest.raises(CannotStart, match="the supervisor passed"):
        listen(free_port(), HOGSEND_LISTEN_FD=descriptor)


def test_a_socket_that_is_passed_on_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen(free_port()) as supervisors:
        ours = os.dup(supervisors.fileno())
        with listen(free_port(), HOGSEND_LISTEN_FD=str(ours)) as passed_on:
            assert passed_on.getsockname() == supervisors.getsockname()
        systemds = os.dup(supervisors.fileno())
        monkeypatch.setattr("services.gateway.listener.SYSTEMD_DESCRIPTOR", systemds)
        pid = str(os.getpid())
        with listen(free_port(), LISTEN_FDS="1", LISTEN_PID=pid) as passed_on:
            assert passed_on.getsockname() == supervisors.getsockname()


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        ((1024, 1 << 20), 12288),
        ((1024, 4096), 4096 - 256),
        ((1 << 20, 1 << 20), 12288),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 12288),
    ],
)
def test_the_limit_for_open_files_is_raised_as_far_as_it_goes(
    limits: tuple[int, int], allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [limits]
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: now[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, wanted: now.append(wanted))
    assert connection_limit(12288) == allowed
    assert now[-1][0] >= min(limits[1], allowed) or limits[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_a_lower_limit_is_set_where_the_system_refuses_the_highest(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS says that there is no limit, and allows `OPEN_MAX`."""
    now = [(256, resource.RLIM_INFINITY)]

    def set_limit(_kind: int, wanted: tuple[int, int]) -> None:
        if wanted[0] > 10240:
            raise error
        now.append(wanted)

    monkeypatch.setattr(resource, "getrlimit", lambda _kind: now[-1])
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    assert connection_limit(12288) == 8192 - 256


def test_a_limit_that_the_system_lowers_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [(256, resource.RLIM_INFINITY)]
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: now[-1])
    monkeypatch.setattr(
        resource, "setrlimit", lambda _kind, wanted: now.append((min(wanted[0], 4096), wanted[1]))
    )
    assert connection_limit(12288) == 4096 - 256


def test_too_low_a_limit_for_open_files_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (256, 1024))
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, _wanted: None)
    with pytest.raises(CannotStart, match="ulimit -n"):
        connection_limit(12288)


def test_the_server_accepts_the_configured_number_of_connections() -> None:
    server = make_server(cast("Any", None), GatewaySettings(gateway_max_connections=5000))
    assert server.backpressure == 5000
