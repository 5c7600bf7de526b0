"""A server that is being stopped says so before it ends a connection."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch
from urllib.parse import urlparse

from nats.aio.client import Client, Srv

from hogsend.contract.users import User
from hogsend.transport.connection import Connection


async def test_a_server_that_is_being_stopped_is_told_of() -> None:
    told: list[str] = []
    link = Connection(
        User.APP, "nats://127.0.0.1:1", observer=lambda what, _detail: told.append(what)
    )

    async def connect(client: Client, **options: Any) -> None:
        client._lame_duck_mode_cb = options["lame_duck_mode_cb"]
        client._current_server = Srv(urlparse("nats://127.0.0.1:1"))

    with patch.object(Client, "connect", connect):
        await link.open()
    await link.client._process_info({"ldm": True})
    assert told == ["connected", "lame duck"]
