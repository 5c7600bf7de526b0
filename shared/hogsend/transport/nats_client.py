"""nats-py's client, which goes on when an answer comes too late, and ends when it is cancelled.

It reads headers only where they are asked for, and then in less than half of nats-py's time. Events
are sent to PostHog without a look at theirs, which was a sixth of the work on one. A listener that
never waits gets messages without a queue and a task between, in two thirds of the time. What others
put into a subject or headers ends no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Coroutine, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import DEFAULT_FLUSH_TIMEOUT, Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.nuid import NUID
from nats.protocol.parser import PERMISSIONS_ERR, STALE_CONNECTION

from hogsend.transport.hpub import encode_headers
from hogsend.transport.nats_parser import NatsParser

T = TypeVar("T")

Heard = Callable[[Msg], None]
"""Takes a message at once: what it keeps of messages it must bound itself."""

_NAME_BYTES = 64
"""Longest name of a header that is remembered: publishers choose them."""

_BEGINNING = b"NATS/1.0\r\n"
"""Of headers without a status of the server's."""

MOST_GONE = 3
"""Servers that are still tried although the one that is connected names them no more: while a
server restarts, the others do not name it."""

CLOSE_SECONDS = 2.0
"""How long the server may take for what is still to be sent when a connection is closed."""

_WEBSOCKET = frozenset({"ws", "wss"})


class _Unread:
    """Headers as they came."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def read(self) -> dict[str, str] | None:
        return _read(self._raw) or None

    def get(self, name: str) -> str | None:
        # What nats-py asks for before there is a message.
        return (self.read() or {}).get(name)


class _Message(Msg):
    """nats-py's message, whose headers are read when they are first asked for."""

    _headers: dict[str, str] | _Unread | None

    @property
    def headers(self) -> dict[str, str] | None:
        if isinstance(self._headers, _Unread):
            self._headers = self._headers.read()
        return self._headers

    @headers.setter
    def headers(self, headers: dict[str, str] | None) -> None:
        self._headers = headers


class NatsClient(Client):
    """nats-py's client, with its faults of waiting mended.

    A PONG that is not waited for any more is taken as such. Left to itself nats-py stops reading at
    the PONG of a flush that had timed out, while it still says that it is connected: nothing is
    answered until the server does not answer three pings.

    An attempt to connect that was cancelled is the last one. nats-py waits with `asyncio.wait_for`,
    which before Python 3.12 forgets a cancellation that comes as the attempt fails, and then tries
    again without end.

    An error of the server's ends a connection, and the next one is made. nats-py gives up for good,
    and does not say why: where a password was taken back, also once it is given again.

    A task that is cancelled ends. nats-py forgets the cancellation that comes together with an
    answer, for the same reason, and every one that comes while it writes. Code that cancels a
    task only once, as `asyncio.TaskGroup` does, would wait for it without end.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps = NatsParser(self)
        self._listeners: dict[int, Heard] = {}

    async def connect(self, *given: Any, **options: Any) -> None:
        """Connect, as nats-py does; closed before, without anything of the connection before.

        nats-py would add to the servers that it knows, and tries each at most once a second.
        """
        self._server_pool = []
        self._listeners = {}
        # Processes that were forked since would hear one another's answers and messages.
        self._nuid = NUID()
        await super().connect(*given, **options)

    async def hear(self, subject: str, heard: Heard) -> Subscription:
        """Subscribe, and hand messages over as they are read from the connection.

        An exception of `heard` is told to the connection's error callback, as nats-py tells those
        of its callbacks.
        """

        async def queued(message: Msg) -> None:
            # One that came before `heard` was known.
            heard(message)

        subscription = await self.subscribe(subject, cb=queued)
        self._listeners[subscription._id] = heard  # noqa: SLF001
        return subscription

    async def end(self, subscription: Subscription, seconds: float) -> None:
        """End what `hear` began: what the server has sent for it by then was heard.

        nats-py forgets a subscription before the server has read of its end, or asks for that with
        a PING that overtakes it (`drain`). What comes in between is not heard.

        Args:
            subscription: ended afterwards, whatever happens.
            seconds: that the server may take.

        Raises:
            TimeoutError: it took longer.
            nats.errors.Error: the connection is closed.
        """
        try:
            # A server that is connected to later never hears of the subscription.
            if self.is_connected:
                async with asyncio.timeout(seconds):
                    await self._send_unsubscribe(subscription._id)  # noqa: SLF001
                    # See `Connection.flush`.
                    await self.flush()
                    await self.flush()
        finally:
            subscription._closed = True  # noqa: SLF001
            # Its task would be found by the garbage collector, which says so as an error.
            subscription._stop_processing()  # noqa: SLF001
            self._remove_sub(subscription._id)  # noqa: SLF001

    async def subscribe_again(self, subjects: Container[str]) -> set[str]:
        """Ask for subscriptions again that the server does not have; it keeps those it has.

        Args:
            subjects: of these subscriptions, in lower case.

        Returns:
            Those that were asked for: others have ended since.
        """
        asked = set[str]()
        for subscription in list(self._subs.values()):
            if (subject := subscription.subject.lower()) in subjects:
                asked.add(subject)
                await self._send_subscribe(subscription)
        return asked

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._listeners.pop(sid, None)
        super()._remove_sub(sid, max_msgs)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        heard = self._listeners.get(sid)
        if heard is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        found = await self._process_headers(headers) if headers else None
        try:
            heard(self._build_message(sid, subject, reply, data, found))
        except Exception as error:  # noqa: BLE001 - reading goes on, whatever it is
            await self._error_cb(error)

    async def _process_headers(self, headers: bytes | None) -> Any:
        if headers is not None and headers.startswith(_BEGINNING):
            return _Unread(headers[len(_BEGINNING) :])
        try:
            return await super()._process_headers(headers)
        except (IndexError, UnicodeDecodeError):
            # Not even NATS looks at the headers of a message.
            return None

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any
    ) -> Msg:
        # A subject may be no UTF-8: nats-py would end the connection, and get it again with the
        # next one.
        return _Message(
            subject=subject.decode(errors="replace"),
            reply=reply.decode(errors="replace"),
            data=data,
            headers=headers,
            _client=self,
            _sid=sid,
        )

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Publish, as nats-py does.

        Raises:
            nats.errors.MaxPayloadError: with its headers, which nats-py does not count, the message
                is larger than the server takes. It would end the connection.
            nats.errors.Error: as nats-py.
        """
        self._check_size(payload, headers)
        await super().publish(subject, payload, reply, headers)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,  # noqa: ASYNC109 - nats-py has it
        old_style: bool = False,
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        """Ask, as nats-py does; a cancellation ends it."""
        # nats-py would keep for good what it awaits of a request that is not sent.
        self._check_size(payload, headers)
        asking = super().request(subject, payload, timeout, old_style, headers)
        return await _unless_cancelled(asking)

    def _check_size(self, payload: bytes, headers: Mapping[str, str] | None) -> None:
        size = len(payload) + (len(encode_headers(headers)) if headers else 0)
        if size > self.max_payload:
            raise nats.errors.MaxPayloadError

    async def flush(self, timeout: int = DEFAULT_FLUSH_TIMEOUT) -> None:  # noqa: ASYNC109
        """Wait until the server has what was written; a cancellation ends it."""
        await _unless_cancelled(super().flush(timeout))

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """Close, also a connection that was lost and still has something to be written.

        nats-py raises what the socket does, and leaves everything else as it was; so does a
        cancellation.
        """
        giving_up = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._abort)
        try:
            await super()._close(status, do_cbs)
        except (OSError, asyncio.CancelledError) as error:
            self._abort()
            self._pending, self._pending_data_size = [], 0
            self._status = Client.DISCONNECTED
            await super()._close(status, do_cbs)
            if isinstance(error, asyncio.CancelledError):
                raise
            await self._error_cb(error)
        finally:
            giving_up.cancel()
            self._end_writes()

    def _end_writes(self) -> None:
        """Tell who waits for a message to be written that it never will be."""
        while self._flush_queue is not None and not self._flush_queue.empty():
            written = self._flush_queue.get_nowait()
            if not written.done():
                written.set_exception(nats.errors.ConnectionClosedError())
                # Where nothing waits for it, asyncio would complain.
                written.exception()

    async def _attempt_reconnect(self) -> None:
        self._abort()
        await super()._attempt_reconnect()

    def _abort(self) -> None:
        """Drop the connection, and what is still to be sent on it.

        Closed, it would first wait for that, and without end where the server is frozen or cut off.
        """
        # None of a WebSocket, which aiohttp closes.
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        return await _unless_cancelled(super()._flush_pending(force_flush))

    async def _connect_to_server(self, s: Srv) -> None:
        await _unless_cancelled(super()._connect_to_server(s))
        if (transport := self._transport) is not None and s.uri.scheme not in _WEBSOCKET:
            # Of asyncio's own since Python 3.12, `writelines` raises `TypeError` on a connection
            # that was lost, which nats-py does not expect, and never ends with an empty piece.
            transport.writelines = lambda payload: transport.write(b"".join(payload))  # type: ignore[method-assign]

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        await super()._process_info(info, initial_connection)
        if not (known := info.get("connect_urls")):
            return
        kept, gone = list[Srv](), list[Srv]()
        for server in self._server_pool:
            is_gone = server.discovered and server.uri.netloc not in known
            (gone if is_gone else kept).append(server)
        # Those of an earlier call are at the end, unless a reconnection has shuffled them since.
        self._server_pool = [*kept, *gone[:MOST_GONE]]

    async def _process_connect_init(self) -> None:
        await _unless_cancelled(super()._process_connect_init())

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_err(self, err_msg: str) -> None:
        if any(known in err_msg for known in (PERMISSIONS_ERR, STALE_CONNECTION)):
            await super()._process_err(err_msg)
            return
        error = nats.errors.Error(f"nats: {err_msg}")
        await self._error_cb(error)
        await self._process_op_err(error)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        return _read(raw)


def _read(raw: bytes) -> dict[str, str]:
    """Give what nats-py gives; that looks at each letter of each name in every message."""
    found: dict[str, str] = {}
    for line in raw.split(b"\r\n"):
        raw_name, colon, value = line.partition(b":")
        if not colon:
            continue
        name = (_known_name if len(raw_name) <= _NAME_BYTES else _name)(raw_name)
        if name is not None:
            found[name] = value.strip().decode("utf-8", "replace")
    return found


def _name(raw: bytes) -> str | None:
    """The name of a header; None for what is no name."""
    try:
        name = raw.strip().decode("ascii")
    except UnicodeDecodeError:
        return None
    return None if any(map(str.isspace, name)) else name


_known_name = lru_cache(maxsize=1024)(_name)


async def _unless_cancelled(work: Coroutine[Any, Any, T]) -> T:
    """Do it, and end if this task was cancelled meanwhile, also where it fails.

    What was cancelled before goes on: it cleans up, or tries again. A task stays counted as
    cancelled after its `asyncio.TaskGroup` has failed, before Python 3.13.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        return await work
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
