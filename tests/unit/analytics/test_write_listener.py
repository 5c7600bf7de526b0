"""A replica has at most one subscription to captured events."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

from services.analytics.delivery.write_listener import WriteListener
from tests.virtual_time import on_virtual_time, settle


@on_virtual_time
async def test_concurrent_calls_subscribe_once() -> None:
    sent = asyncio.Event()
    subscribed, unsubscribed = AsyncMock(), AsyncMock()

    async def subscribe(_subject: str, **_options: object) -> object:
        # nats-py waits like this while its send buffer is over its limit.
        await sent.wait()
        await subscribed()
        return SimpleNamespace(unsubscribe=unsubscribed)

    client = SimpleNamespace(subscribe=subscribe, max_payload=0)
    link = SimpleNamespace(client=client, on_reconnect=lambda _hook: None)
    listener = WriteListener(cast("Any", link), cast("Any", SimpleNamespace(use_captures=id)))
    both = asyncio.gather(listener.subscribe_to_captures(), listener.subscribe_to_captures())
    await settle()
    sent.set()
    await both
    await listener.unsubscribe_from_captures()
    assert (subscribed.await_count, unsubscribed.await_count) == (1, 1)
