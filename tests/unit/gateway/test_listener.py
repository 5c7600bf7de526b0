"""The gateway's socket: shared only if configured, with capacity for thousands of connections."""

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


def test_a_port_in_use_is_refused_unless_both_sockets_share_it() -> None:
    port = free_port()
    with listen(port), pytest.raises(CannotStart, match="GATEWAY_SHARE_PORT"):
        listen(port)
    with listen(port, share=True), listen(port, share=True):
        pass
    with listen(port, share=True), pytest.raises(CannotStart, match="in use"):
        listen(port)


def test_the_socket_has_a_user_timeout_and_a_small_send_buffer() -> None:
    with listen(free_port()) as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 65_000
        # Linux returns twice the size that was set.
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 128 * 1024


def test_a_socket_passed_to_another_process_is_not_used() -> None:
    port = free_port()
    with listen(port, LISTEN_FDS="1", LISTEN_PID="1") as listening:
        assert listening.getsockname()[1] == port


@pytest.mark.parametrize("text", ["", "x", "-1", "99999"])
def test_a_passed_descriptor_that_is_not_a_listening_socket_is_refused(text: str) -> None:
    with socket.socket() as unbound:
        descriptor = text or str(os.dup(unbound.fileno()))
    with pytest.raises(CannotStart, match="the supervisor passed"):
        listen(free_port(), HOGSEND_LISTEN_FD=descriptor)


def test_a_socket_passed_by_the_supervisor_or_systemd_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listen(free_port()) as supervisors:
        descriptor = os.dup(supervisors.fileno())
        with listen(free_port(), HOGSEND_LISTEN_FD=str(descriptor)) as passed_on:
            assert passed_on.getsockname() == supervisors.getsockname()
        systemd_descriptor = os.dup(supervisors.fileno())
        monkeypatch.setattr("services.gateway.listener.SYSTEMD_DESCRIPTOR", systemd_descriptor)
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
def test_the_limit_for_open_files_is_raised_up_to_the_hard_limit(
    limits: tuple[int, int], allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits_set = [limits]
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: limits_set[-1])
    monkeypatch.setattr(
        resource, "setrlimit", lambda _kind, limits_to_set: limits_set.append(limits_to_set)
    )
    assert connection_limit(12288) == allowed
    assert limits_set[-1][0] >= min(limits[1], allowed) or limits[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_a_lower_limit_is_set_where_the_system_refuses_the_highest(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS reports no hard limit and refuses more than `OPEN_MAX`."""
    limits_set = [(256, resource.RLIM_INFINITY)]

    def set_limit(_kind: int, limits_to_set: tuple[int, int]) -> None:
        if limits_to_set[0] > 10240:
            raise error
        limits_set.append(limits_to_set)

    monkeypatch.setattr(resource, "getrlimit", lambda _kind: limits_set[-1])
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    assert connection_limit(12288) == 8192 - 256


def test_the_limit_that_the_system_really_set_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    limits_set = [(256, resource.RLIM_INFINITY)]
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: limits_set[-1])
    monkeypatch.setattr(
        resource,
        "setrlimit",
        lambda _kind, limits_to_set: limits_set.append(
            (min(limits_to_set[0], 4096), limits_to_set[1])
        ),
    )
    assert connection_limit(12288) == 4096 - 256


def test_too_low_a_limit_for_open_files_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (256, 1024))
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, _wanted: None)
    with pytest.raises(CannotStart, match="ulimit -n"):
        connection_limit(12288)


def test_the_backlog_of_the_server_is_the_configured_number_of_connections() -> None:
    server = make_server(cast("Any", None), GatewaySettings(gateway_max_connections=5000))
    assert server.backpressure == 5000
