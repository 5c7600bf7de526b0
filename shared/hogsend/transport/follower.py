"""Follows what a JetStream stream keeps for late readers: the last state first, then each change.

Its consumer wants no acknowledgement, so the server takes for delivered what was on its way when a
connection broke. Whenever that may have been, another consumer is made, which begins with the last
state again: what is given may be a repeat, and the last state is never missed.
"""

from __future__ import annotations

import asyncio
import weakref

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from hogsend.transport.background import run_in_background
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import RETRY_SECONDS, is_stray, wait_until_connected
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.foreign_consumer import delete_consumer, ensure_consumer, with_random_name
from hogsend.transport.pull import ConsumerGone, Pull
from hogsend.transport.read_failures import ReadFailures

AT_ONCE = 64
"""Messages that one request brings."""


class Follower:
    """One reader of such a stream."""

    def __init__(self, connection: Connection, stream: str, config: ConsumerConfig) -> None:
        """Prepare without asking.

        Args:
            connection: may connect later.
            stream: the stream's name.
            config: has no durable name, and wants no acknowledgement.
        """
        self._connection = connection
        self._stream = stream
        self._config = with_random_name(config)
        self._failures = ReadFailures(connection, stream, None)
        self._reading: _Reading | None = None
        self._ended = False
        self._finalizer: weakref.finalize[..., Follower] | None = None

    async def ensure(self) -> str:
        """Make the consumer unless it exists, and give its name.

        Raises:
            Forbidden: this NATS user may not make it.
            nats.errors.Error: NATS or JetStream cannot be reached.
        """
        return (await ensure_consumer(self._connection, self._stream, self._config)).name

    async def next(self) -> list[Msg]:
        """Wait for what comes next; empty once the connection is closed, and behind the end.

        A wait that is cancelled loses nothing. The connection's observer is told why nothing can be
        read, while it is tried again.

        Raises:
            Forbidden: this NATS user may not make the consumer, or not read from it.
        """
        while not self._ended:
            try:
                pull = self._reading.pull if self._reading else await self._start()
                if self._ended:
                    break
                messages = await pull.follow(AT_ONCE)
                self._failures.clear()
                if kept := [
                    message for message in messages if not is_stray(self._connection, message)
                ]:
                    return kept
            except nats.errors.ConnectionClosedError:
                return []
            except (*UNREACHABLE, ConsumerGone) as error:
                self._failures.record(error)
                await self._begin_again()
        return []

    def stop(self) -> None:
        """Let every call of `next`, those that wait included, give nothing more."""
        self._ended = True
        if self._finalizer is not None:
            # Stops the pull, which tells who waits.
            self._finalizer()

    async def _start(self) -> Pull:
        await wait_until_connected(self._connection, stopped=lambda: self._ended)
        name = await self.ensure()
        reading = _Reading(self._connection, self._stream, name)
        await reading.pull.start()
        self._connection.add_close_hook(reading.end)
        self._reading = reading
        # NATS' client keeps the subscription, and with it the pull, for as long as it lives.
        loop = asyncio.get_running_loop()
        self._finalizer = weakref.finalize(self, _end_soon, loop, reading)
        self._finalizer.atexit = False
        return reading.pull

    async def _begin_again(self) -> None:
        reading, self._reading = self._reading, None
        self._config = with_random_name(self._config)
        if reading is not None:
            if self._finalizer is not None:
                self._finalizer.detach()
            await reading.end()
        await asyncio.sleep(RETRY_SECONDS)


class _Reading:
    """A consumer that is read, until that ends."""

    def __init__(self, connection: Connection, stream: str, name: str) -> None:
        self._connection = connection
        self._stream = stream
        self._name = name
        self.pull = Pull(connection, stream, name)

    async def end(self) -> None:
        self._connection.remove_close_hook(self.end)
        await self.pull.stop()
        await delete_consumer(self._connection, self._stream, self._name)


def _end_soon(loop: asyncio.AbstractEventLoop, reading: _Reading) -> None:
    def end() -> None:
        run_in_background(reading.end())

    if not loop.is_closed():
        # Garbage is collected in any thread.
        loop.call_soon_threadsafe(end)
