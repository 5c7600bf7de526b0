"""Finds out that the process which received a request is frozen or gone.

A frozen process keeps its connection to NATS, so that its caller gets no "no responders", and would
wait for the whole deadline. The caller cannot see which replica of a service received its request.
So it pings all of them with the ids of its slow requests, and each one that runs replies which of
them it has. A replica that works on a request replies as well: pings are handled beside requests.

Nothing is sent during the first `WATCH_SECONDS` of a request. After that, one ping names all slow
requests: a service that is slow because of many requests does not get as many pings.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import msgspec
from nats.aio.msg import Msg

from hogsend.contract.discovery import PingedReplica, PingQuery, ping_subject
from hogsend.contract.errors import Unavailable
from hogsend.contract.json_text import NOT_JSON
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.nats_client import NatsClient
from hogsend.transport.refusals import Refusals

WATCH_SECONDS = 1.0
"""How long a request is unanswered before the first ping, and the interval of further ones."""
SILENT_SECONDS = 2.0
"""How long no replica has to reply that it has the request, until the request counts as lost.

A replica whose event loop is blocked for longer is taken for a frozen one.
"""
PING_SECONDS = 0.25
"""How often the ping is repeated while no replica has replied that it has the request.

Each interval counts as this long towards `SILENT_SECONDS`, even if this process was delayed itself.
A process that was just resumed, or whose event loop was blocked, reads the replies first.
"""
OFFLINE_SECONDS = 5.0
"""How long NATS may be disconnected until slow requests fail.

Their replies arrive after a reconnect, unless the service reconnects before the caller does.
"""
MAX_IDS = 1000
"""Requests that one ping names."""

_decoder = msgspec.json.Decoder(PingedReplica)


def is_watched(deadline: float) -> bool:
    """Whether a request with that deadline in seconds would fail later than its watch does."""
    return deadline > WATCH_SECONDS + SILENT_SECONDS


class WatchedRequest:
    """A request without a reply."""

    __slots__ = ("due_at", "id", "is_slow", "lost", "silent")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.id = secrets.token_hex(16)
        """Its header `REQUEST_ID`."""
        self.lost: asyncio.Future[Unavailable] = loop.create_future()
        """Done once no replica has the request, with the error to raise."""
        self.is_slow = False
        """Whether it was named in a ping."""
        self.silent = 0.0
        """For how many seconds no replica has replied that it has the request."""
        self.due_at = loop.time() + WATCH_SECONDS
        """When the next ping has to name it."""

    def confirm(self, now: float) -> None:
        """Process that a replica has the request."""
        self.silent, self.due_at = 0.0, now + WATCH_SECONDS


class ServiceWatch:
    """Watches the requests of one connection to one service, each from its start to its reply."""

    def __init__(
        self,
        client: NatsClient,
        refusals: Refusals,
        *,
        answers_ping: Callable[[], Awaitable[bool]],
        service: str,
    ) -> None:
        """Start without a request.

        Args:
            client: the requests are sent with it.
            refusals: of its connection.
            answers_ping: returns whether NATS responds, and first processes what it has sent.
            service: the replicas of this service are pinged.
        """
        self._client = client
        self._refusals = refusals
        self._answers_ping = answers_ping
        self._service = service
        self._subject = ping_subject(service)
        self._requests: dict[str, WatchedRequest] = {}
        self._timer: asyncio.TimerHandle | None = None
        """Starts the pings when a request is slow; None while they run, and without requests."""
        self._pings: asyncio.Task[None] | None = None
        self._pinged: Sequence[WatchedRequest] = ()
        """The requests in the latest pings."""
        self._replied_at = float("-inf")

    def add(self) -> WatchedRequest:
        """Watch a request that is sent now."""
        loop = asyncio.get_running_loop()
        request = WatchedRequest(loop)
        self._requests[request.id] = request
        if self._timer is None and self._pings is None:
            self._start_timer()
        return request

    def remove(self, request: WatchedRequest) -> None:
        """Stop watching a request, which has ended."""
        self._requests.pop(request.id, None)
        if self._requests:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pings is not None:
            self._pings.cancel()
            self._pings = None

    def _start_timer(self) -> None:
        # Without slow requests, they are in the order in which they become due.
        first = next(iter(self._requests.values()))
        self._timer = asyncio.get_running_loop().call_at(first.due_at, self._ping_if_due)

    def _ping_if_due(self) -> None:
        loop = asyncio.get_running_loop()
        if next(iter(self._requests.values())).due_at > loop.time():
            self._start_timer()
        else:
            self._timer, self._pings = None, loop.create_task(self._ping())

    async def _ping(self) -> None:
        """Ping until no slow request is left."""
        inbox = self._client.new_inbox()
        try:
            subscription = await self._client.subscribe_inline(inbox, self._receive)
            try:
                await self._ping_while_slow(inbox)
            finally:
                # With the connection closed meanwhile, the subscription has ended as well.
                with suppress(*UNREACHABLE):
                    await subscription.unsubscribe()
        except UNREACHABLE as error:
            self._fail(list(self._requests.values()), f"NATS cannot be reached: {error}")
        finally:
            # Otherwise `remove` has ended these pings, and others may run already.
            if self._pings is asyncio.current_task():
                self._pings = None
                if self._requests:
                    self._start_timer()

    async def _ping_while_slow(self, inbox: str) -> None:
        loop, offline = asyncio.get_running_loop(), 0.0
        while True:
            now = loop.time()
            due = [request for request in self._requests.values() if request.due_at <= now]
            for request in due:
                request.is_slow = True
            if not any(request.is_slow for request in self._requests.values()):
                return
            if self._client.is_connected:
                offline = 0.0
                await self._ping_once(due, inbox)
                continue
            await asyncio.sleep(PING_SECONDS)
            offline += PING_SECONDS
            for request in due:
                # The replicas may have lost their connections as well.
                request.silent = 0.0
            if offline >= OFFLINE_SECONDS:
                self._fail(due, f"NATS was disconnected for {OFFLINE_SECONDS:g} s")

    async def _ping_once(self, requests: Sequence[WatchedRequest], inbox: str) -> None:
        """Send a ping, wait `PING_SECONDS` for the replies, and fail the requests that are lost."""
        if not self._refusals.is_ping_refused(self._subject):
            await self._send(requests, inbox)
        sent_at = asyncio.get_running_loop().time()
        await asyncio.sleep(PING_SECONDS)
        if self._refusals.is_ping_refused(self._subject):
            # Nothing is known about the replicas.
            return
        for request in requests:
            if request.due_at <= sent_at:
                request.silent += PING_SECONDS
        await self._fail_lost()

    async def _send(self, requests: Sequence[WatchedRequest], inbox: str) -> None:
        self._pinged = requests
        for start in range(0, len(requests), MAX_IDS):
            ids = [request.id for request in requests[start : start + MAX_IDS]]
            body = msgspec.json.encode(PingQuery(requests=ids))
            with suppress(*UNREACHABLE):
                await self._client.publish(self._subject, body, reply=inbox)

    def _receive(self, message: Msg) -> None:
        # Without a subscriber, the server replies with a status and no body.
        if not message.data:
            return
        try:
            replica = _decoder.decode(message.data)
        except NOT_JSON:
            return
        self._replied_at = now = asyncio.get_running_loop().time()
        if replica.in_progress is None:
            confirmed = self._pinged
        else:
            confirmed = [self._requests[id] for id in replica.in_progress if id in self._requests]
        for request in confirmed:
            request.confirm(now)

    async def _fail_lost(self) -> None:
        if not self._lost():
            return
        # Replies that have arrived before the PONG of this are processed first.
        is_nats_up = await self._answers_ping()
        is_service_up = asyncio.get_running_loop().time() - self._replied_at < SILENT_SECONDS
        if not is_nats_up:
            text = f"NATS did not answer within {SILENT_SECONDS:g} s"
        elif is_service_up:
            text = (
                f"the replica of the {self._service} service that received the request does not "
                "respond; it may still carry it out"
            )
        else:
            text = (
                f"the {self._service} service does not respond; it may still carry out the request"
            )
        self._fail(self._lost(), text)

    def _lost(self) -> list[WatchedRequest]:
        return [request for request in self._requests.values() if request.silent >= SILENT_SECONDS]

    def _fail(self, requests: Sequence[WatchedRequest], text: str) -> None:
        for request in requests:
            if self._requests.pop(request.id, None):
                request.lost.set_result(Unavailable(text))
