"""Ports of the local stack: one that cannot be used is reported before anything is started."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from cli.errors import CommandError
from cli.stack import ports
from cli.stack.ports import free_or_any, require_free
from tests.ports import free_port


@pytest.fixture
def used() -> Any:
    """A port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_used_port_is_reported_with_the_process_and_the_setting(used: int) -> None:
    with pytest.raises(CommandError, match=r"in use by .+ \(process \d+\)") as refused:
        require_free("127.0.0.1", used, "GATEWAY_PORT", "the gateway")
    assert f"port {used} for the gateway" in str(refused.value)
    assert "GATEWAY_PORT" in refused.value.fix


def test_a_used_port_is_reported_when_its_process_may_not_be_read(
    used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_kind: str) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", denied)
    with pytest.raises(CommandError, match=f"port {used} for the gateway is in use$"):
        require_free("127.0.0.1", used, "GATEWAY_PORT", "the gateway")


def test_a_used_port_is_reported_when_its_process_has_just_ended(
    used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(pid: int) -> None:
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(psutil, "Process", gone)
    with pytest.raises(CommandError, match=r"in use by process \d+"):
        require_free("127.0.0.1", used, "GATEWAY_PORT", "the gateway")


def test_a_port_that_is_only_connected_to_is_not_reported_as_used_by_that_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = SimpleNamespace(status=psutil.CONN_ESTABLISHED, laddr=("127.0.0.1", 3002), pid=1)
    monkeypatch.setattr(psutil, "net_connections", lambda _kind: [other])
    assert ports._listening_process(3002) is None


def test_a_privileged_port_is_reported_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(CommandError, match="needs privileges") as refused:
        require_free("127.0.0.1", 80, "GATEWAY_PORT", "the gateway")
    assert "above 1023" in refused.value.fix


def test_an_address_of_another_machine_is_not_reported_as_in_use() -> None:
    # An address of a documentation network (RFC 5737), which no machine has.
    with pytest.raises(CommandError, match=r"cannot listen on 192\.0\.2\.1:") as refused:
        require_free("192.0.2.1", 0, "GATEWAY_HOST", "the gateway")
    assert "IP address of this machine" in refused.value.fix


def test_a_free_port_is_kept_and_a_used_one_replaced(used: int) -> None:
    free = free_port()
    require_free("127.0.0.1", free, "GATEWAY_PORT", "the gateway")
    assert free_or_any(free) == free
    assert free_or_any(used) not in {0, used}
