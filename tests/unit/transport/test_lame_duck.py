"""A server that is being stopped announces it (lame duck mode) before it closes connections."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch
from urllib.parse import urlparse

from nats.aio.client import Client, Srv

from hogsend.contract.users import User
from hogsend.transport.connection import Connection


async def test_a_server_in_lame_duck_mode_is_reported() -> None:
    reported: list[tuple[str, str]] = []
    link = Connection(
        User.APP, "nats://127.0.0.1:1", observer=lambda *event: reported.append(event)
    )

    async def connect(client: Client, **options: Any) -> None:
        client._lame_duck_mode_cb = options["lame_duck_mode_cb"]
        client._current_server = Srv(urlparse("nats://t0ken@10.0.0.1:4222"))
        client._status = Client.CONNECTED

    with patch.object(Client, "connect", connect):
        await link.open()
    await link.client._process_info({"ldm": True})
    assert reported[1:] == [("lame duck", "nats://10.0.0.1:4222")]
