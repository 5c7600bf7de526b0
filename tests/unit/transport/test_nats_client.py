"""The client that goes on when an answer comes too late."""

from __future__ import annotations

import asyncio

from hogsend.transport.nats_client import NatsClient


async def test_a_pong_that_nobody_waits_for_any_more_is_no_error_and_no_other_ones() -> None:
    client = NatsClient()
    loop = asyncio.get_running_loop()
    late, next_one = loop.create_future(), loop.create_future()
    late.cancel()
    client._pongs += [late, next_one]
    await client._process_pong()
    assert not next_one.done()
    await client._process_pong()
    assert next_one.done()
