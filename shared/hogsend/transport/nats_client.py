"""nats-py's client, which goes on when an answer comes too late, and ends when it is cancelled."""

from __future__ import annotations

import asyncio

from nats.aio.client import Client, Srv


class NatsClient(Client):
    """nats-py's client, with two faults of waiting mended.

    A PONG that nobody waits for any more is taken as such. Left to itself nats-py stops reading at
    the PONG of a flush that had timed out, while it still says that it is connected: nothing is
    answered until the server does not answer three pings.

    An attempt to connect that was cancelled is the last one. nats-py waits with `asyncio.wait_for`,
    which before Python 3.12 forgets a cancellation that comes as the attempt fails, and then tries
    again without end.
    """

    async def _connect_to_server(self, s: Srv) -> None:
        _end_if_cancelled()
        await super()._connect_to_server(s)

    async def _process_connect_init(self) -> None:
        await super()._process_connect_init()
        _end_if_cancelled()

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()


def _end_if_cancelled() -> None:
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
