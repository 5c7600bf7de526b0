"""Many JetStream publishes in flight at once, each with its own deadline.

nats-py's `publish` sets up a request and a timer for every message; on the webhook path that costs
more than everything else together. Here all acknowledgements arrive on one subscription, one timer
looks after all deadlines, and what is published in the same turn of the loop is written at once.
Order on the wire is the order of the calls.
"""

from __future__ import annotations

import asyncio

import msgspec
import nats.errors
from nats.aio.msg import Msg

from hogsend.contract.errors import Unavailable
from hogsend.transport.connection import Bus
from hogsend.transport.hpub import send
from services.gateway.webhooks.queued_webhook import QueuedWebhook

HEADERS_BYTES = 4096
"""Room for the headers of a delivery in a NATS message."""

_SWEEP_SECONDS = 0.005
_LATE_SECONDS = 0.010
_MAX_LATE_SWEEPS = 5


class AckError(msgspec.Struct, frozen=True):
    """Why JetStream did not take a message."""

    code: int
    err_code: int = 0
    description: str = ""


class Ack(msgspec.Struct, frozen=True):
    """JetStream's answer to a publish (NATS ADR-1)."""

    error: AckError | None = None


class PublishRejected(Exception):
    """JetStream answered, and said no to this message."""


_decode_ack = msgspec.json.Decoder(Ack).decode

_PERMANENT = frozenset({400, 413})
"""Answers that another attempt will not change; a full or missing stream is not among them."""


class Publisher:
    """Publishes deliveries on the gateway's bus connection."""

    def __init__(self, bus: Bus) -> None:
        """Use `bus`; `start` must follow its first connection."""
        self._bus = bus
        self._inbox = ""
        self._next = 0
        self._outgoing: list[tuple[QueuedWebhook, str]] = []
        self._wake = asyncio.Event()
        # In order of publishing, and so, per caller, nearly in order of deadline.
        self._waiting: dict[str, tuple[float, asyncio.Future[None]]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._late_sweeps = 0

    async def start(self) -> None:
        """Subscribe to the acknowledgements."""
        inbox = f"{self._bus.client.new_inbox()}."
        await self._bus.client.subscribe(f"{inbox}*", cb=self._acknowledged)
        self._inbox = inbox

    async def write_forever(self) -> None:
        """Send what `publish` was given; without it nothing is sent."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            messages, self._outgoing = self._outgoing, []
            try:
                await send(self._bus.client, messages)
            except (nats.errors.Error, OSError) as error:
                for _, reply in messages:
                    self._fail(reply[len(self._inbox) :], Unavailable(f"NATS: {error}"))

    @property
    def ready(self) -> bool:
        """Whether publishing makes sense right now."""
        return bool(self._inbox) and self._bus.connected

    async def publish(self, delivery: QueuedWebhook, within: float) -> None:
        """Publish and wait until JetStream has stored it, at most `within` seconds.

        Raises:
            Unavailable: not connected, no acknowledgement in time, stream full or missing.
            PublishRejected: JetStream will never take this message.
        """
        if not self.ready:
            raise Unavailable("NATS is not connected")
        loop = asyncio.get_running_loop()
        if len(delivery.body) + HEADERS_BYTES > self._bus.max_payload:
            raise PublishRejected("larger than NATS allows")
        self._next += 1
        token = str(self._next)
        acknowledged: asyncio.Future[None] = loop.create_future()
        self._waiting[token] = (loop.time() + within, acknowledged)
        if self._sweep is None:
            self._sweep = loop.call_later(_SWEEP_SECONDS, self._expire)
        self._outgoing.append((delivery, self._inbox + token))
        self._wake.set()
        try:
            await acknowledged
        finally:
            self._waiting.pop(token, None)

    async def _acknowledged(self, message: Msg) -> None:
        token = message.subject[len(self._inbox) :]
        if not message.data:
            # The server's "no responders": no stream listens on that subject.
            self._fail(token, Unavailable("the stream does not exist"))
            return
        error = _decode_ack(message.data).error
        if error is None:
            entry = self._waiting.get(token)
            if entry is not None and not entry[1].done():
                entry[1].set_result(None)
        elif error.code in _PERMANENT:
            self._fail(token, PublishRejected(error.description))
        else:
            self._fail(token, Unavailable(error.description))

    def _fail(self, token: str, error: Exception) -> None:
        entry = self._waiting.get(token)
        if entry is not None and not entry[1].done():
            entry[1].set_exception(error)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = self._sweep.when() if self._sweep else now
        self._sweep = loop.call_later(_SWEEP_SECONDS, self._expire) if self._waiting else None
        # A loop that is late itself may have the acknowledgements unread; it cannot call JetStream
        # slow, unless it is late for ever.
        self._late_sweeps = self._late_sweeps + 1 if now - due > _LATE_SECONDS else 0
        if 0 < self._late_sweeps <= _MAX_LATE_SWEEPS:
            return
        for deadline, acknowledged in self._waiting.values():
            if deadline <= now and not acknowledged.done():
                acknowledged.set_exception(Unavailable("JetStream is slow"))
