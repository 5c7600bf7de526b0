"""A replica listens to captured events once, or not at all."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

from services.analytics.delivery.write_listener import WriteListener
from tests.virtual_time import on_virtual_time, settle


@on_virtual_time
async def test_who_begins_to_listen_twice_at_once_subscribes_once() -> None:
    sent = asyncio.Event()
    taken, left = AsyncMock(), AsyncMock()

    async def subscribe(_subject: str, **_options: object) -> object:
        # As nats-py does while its buffer is over its limit.
        await sent.wait()
        await taken()
        return SimpleNamespace(unsubscribe=left)

    client = SimpleNamespace(subscribe=subscribe, max_payload=0)
    link = SimpleNamespace(client=client, on_reconnect=lambda _hook: None)
    listener = WriteListener(cast("Any", link), cast("Any", SimpleNamespace(use_captures=id)))
    both = asyncio.gather(listener.subscribe_to_captures(), listener.subscribe_to_captures())
    await settle()
    sent.set()
    await both
    await listener.unsubscribe_from_captures()
    assert (taken.await_count, left.await_count) == (1, 1)
