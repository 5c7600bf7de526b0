"""`reached_at`: the address at which this machine connects to a local listener."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.stack.data_directory import DataDirectory
from cli.stack.local_sandbox import LocalSandbox
from cli.stack.settings import StackSettings
from cli.stack.stack import Stack
from cli.stack.supervisor import Supervisor
from hogsend.urls import reached_at
from sandbox.options import Options, Resolve
from services.gateway.settings import GatewaySettings

REACHED = {
    "127.0.0.1": "127.0.0.1:3002",
    "0.0.0.0": "127.0.0.1:3002",
    "": "127.0.0.1:3002",
    "::": "[::1]:3002",
    "0::0": "[::1]:3002",
    "::1": "[::1]:3002",
    "192.0.2.7": "192.0.2.7:3002",
    "2001:db8::7": "[2001:db8::7]:3002",
    "localhost": "localhost:3002",
}


@pytest.mark.parametrize(("host", "reached"), REACHED.items())
def test_a_listener_on_all_addresses_is_reached_at_the_loopback_address(
    host: str, reached: str
) -> None:
    assert reached_at(host, 3002) == reached


@pytest.mark.parametrize("host", [host for host in REACHED if host])
def test_the_stack_and_the_stand_in_connect_to_the_host_on_which_the_gateway_listens(
    host: str, tmp_path: Path
) -> None:
    home = DataDirectory(tmp_path / "home")
    gateway = GatewaySettings(gateway_host=host, gateway_port=3002)
    supervisor = Supervisor(home.logs, lambda _name, _text: None)
    assert Stack(home, gateway, StackSettings(), supervisor).base_url == f"http://{REACHED[host]}"
    stand_in = LocalSandbox(8010, 3002, gateway_host=host)
    command = stand_in.program("", tmp_path).command
    (resolve,) = [word for word in command if "=" in word]
    assert resolve == f"hogsend.test={REACHED[host]}"
    assert (Resolve.parse(resolve),) == stand_in.options.resolve
    assert Options(host=host, port=3002).url == f"http://{REACHED[host]}"
