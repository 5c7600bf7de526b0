"""nats-py's client, which goes on when an answer comes too late."""

from __future__ import annotations

import asyncio

from nats.aio.client import Client


class NatsClient(Client):
    """nats-py's client, with PONGs that nobody waits for any more taken as such.

    Left to itself it stops reading at the PONG of a flush that had timed out, while it still says
    that it is connected: nothing is answered until the server does not answer three pings.
    """

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()
