"""Retries subscriptions that the server refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.nats_client import NatsClient
from hogsend.transport.refusals import Refusals

RETRY_SECONDS = 30.0
"""Pause before refused subscriptions are tried again."""


class Resubscriber:
    """Sends refused subscriptions to the server again, until it grants them.

    A server that reloads its configuration keeps its connections. It drops the subscriptions that
    are no longer allowed, and does not report which ones are allowed again. nats-py does not retry:
    without this, every service would have to be restarted.
    """

    def __init__(
        self,
        client: NatsClient,
        refusals: Refusals,
        *,
        flush: Callable[[], Awaitable[None]],
        on_granted: Callable[[], Awaitable[None]],
    ) -> None:
        """Prepare without a retry.

        Args:
            client: has the subscriptions.
            refusals: names the refused ones.
            flush: waits until the server has processed everything that was sent.
            on_granted: called when the server has granted at least one.
        """
        self._client = client
        self._refusals = refusals
        self._flush = flush
        self._on_granted = on_granted
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Retry in the background while there are refused subscriptions."""
        if self._refusals.subscriptions and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._retry_until_granted())

    def stop(self) -> None:
        """Stop retrying."""
        if self._task is not None:
            self._task.cancel()

    async def _retry_until_granted(self) -> None:
        while self._refusals.subscriptions:
            await asyncio.sleep(RETRY_SECONDS)
            if self._client.is_connected:
                with contextlib.suppress(*UNREACHABLE):
                    await self._retry()

    async def _retry(self) -> None:
        refused = frozenset(self._refusals.subscriptions)
        self._refusals.reset()
        retried = await self._client.resubscribe(refused)
        # The server sends a refusal before the reply to this.
        await self._flush()
        if retried - self._refusals.subscriptions:
            await self._on_granted()
