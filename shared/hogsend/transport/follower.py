"""Follows a JetStream stream of states: the last message of each subject first, then each new one.

The consumer has no acknowledgements, so the server counts messages as delivered that were in
transit when a connection broke. After every possible loss, another consumer is created, which
starts with the last message of each subject again. Messages may so be repeated, but the last one is
never missed.
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

BATCH = 64
"""Messages of one pull request."""
OPENING_SECONDS = 1.0
"""How long the close of a connection waits for a consumer that is being created. A frozen server
does not reply."""


class Follower:
    """One reader of such a stream."""

    def __init__(self, connection: Connection, stream: str, config: ConsumerConfig) -> None:
        """Prepare without a request.

        Args:
            connection: may connect later.
            stream: the stream's name.
            config: without a durable name and without acknowledgements.
        """
        self._connection = connection
        self._stream = stream
        self._config = config
        self._failures = ReadFailures(connection, stream, None)
        self._reading: _Reading | None = None
        self._stopped = False
        self._finalizer: weakref.finalize[..., Follower] | None = None

    async def ensure(self) -> None:
        """Create the consumer unless it exists.

        Raises:
            Forbidden: this NATS user may not create it.
            nats.errors.Error: NATS or JetStream cannot be reached.
        """
        await self._opened()

    async def next(self) -> list[Msg]:
        """Wait for the next messages; empty after `stop` and once the connection is closed.

        A wait that is cancelled loses no message. While reading fails, it is retried, and the
        connection's observer is notified of the reason.

        Raises:
            Forbidden: this NATS user may not create the consumer, or not read from it.
        """
        while not self._stopped:
            try:
                pull = await self._opened_pull()
                if self._stopped:
                    break
                messages = await pull.follow(BATCH)
                self._failures.clear()
                if kept := [
                    message for message in messages if not is_stray(self._connection, message)
                ]:
                    return kept
            except nats.errors.ConnectionClosedError:
                return []
            except (*UNREACHABLE, ConsumerGone) as error:
                self._failures.record(error)
                await self._close_reading()
                await asyncio.sleep(RETRY_SECONDS)
        return []

    def stop(self) -> None:
        """End every call of `next`, also one that waits, without a message."""
        self._stopped = True
        if self._finalizer is not None:
            # Stops the pull, which ends the wait for it.
            self._finalizer()

    async def _opened_pull(self) -> Pull:
        # The common case first: this runs for every message.
        if self._reading is not None and self._reading.pull is not None:
            return self._reading.pull
        await wait_until_connected(self._connection, stopped=lambda: self._stopped)
        return await self._opened()

    async def _opened(self) -> Pull:
        if self._reading is None:
            config = with_random_name(self._config)
            self._reading = _Reading(self._connection, self._stream, config)
            # nats-py keeps the subscription, and with it the pull, for as long as the client lives.
            loop = asyncio.get_running_loop()
            self._finalizer = weakref.finalize(self, _close_soon, loop, self._reading)
            self._finalizer.atexit = False
        try:
            return await self._reading.opened()
        except Exception:
            # The next call starts with another consumer, and does not get this error again.
            await self._close_reading()
            raise

    async def _close_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            if self._finalizer is not None:
                self._finalizer.detach()
            await reading.close()


class _Reading:
    """One consumer, from its creation to its deletion."""

    def __init__(self, connection: Connection, stream: str, config: ConsumerConfig) -> None:
        self._connection = connection
        self._stream = stream
        self._config = config
        self._name: str | None = None
        self.pull: Pull | None = None
        """None until `opened`."""
        # A task of its own, as its caller may be cancelled. The server creates the consumer all the
        # same, and would keep it for minutes if it was not deleted.
        self._opening = run_in_background(self._open())
        self._opening.add_done_callback(_retrieve_error)
        connection.add_close_hook(self._close_with_connection)

    async def opened(self) -> Pull:
        """Wait until the consumer can be read.

        Raises:
            Forbidden: this NATS user may not create it.
            nats.errors.Error: NATS or JetStream cannot be reached, or the connection is closed.
        """
        # Unlike `shield`, this does not log an error that occurs after a cancellation.
        await asyncio.wait({self._opening})
        if self._opening.cancelled():
            raise nats.errors.ConnectionClosedError
        return self._opening.result()

    async def close(self) -> None:
        """Stop reading and delete the consumer, also while it is being created."""
        self._connection.remove_close_hook(self._close_with_connection)
        await asyncio.wait({self._opening})
        if self.pull is not None:
            await self.pull.stop()
        name, self._name = self._name, None
        if name is not None:
            await delete_consumer(self._connection, self._stream, name)

    async def _close_with_connection(self) -> None:
        """Close soon, although the server may still be creating the consumer."""
        opened, _ = await asyncio.wait({self._opening}, timeout=OPENING_SECONDS)
        if not opened:
            # The server creates it once it continues, and then receives the deletion.
            self._name = self._config.name
            self._opening.cancel()
        await self.close()

    async def _open(self) -> Pull:
        consumer = await ensure_consumer(self._connection, self._stream, self._config)
        self._name = consumer.name
        pull = Pull(self._connection, self._stream, consumer.name)
        await pull.start()
        self.pull = pull
        return pull


def _retrieve_error(task: asyncio.Task[Pull]) -> None:
    """Mark a task's error as retrieved: asyncio logs one that is not, also after a cancellation."""
    if not task.cancelled():
        task.exception()


def _close_soon(loop: asyncio.AbstractEventLoop, reading: _Reading) -> None:
    def close() -> None:
        run_in_background(reading.close())

    if not loop.is_closed():
        # A garbage collection may run in any thread.
        loop.call_soon_threadsafe(close)
