"""nats-py's client, with fixes for its handling of late PONGs, errors, cancellation and closing.

It also parses headers only where they are read (`received_message`), and calls a handler that never
waits directly as a message is read. Without a queue and a task in between, that takes two thirds of
the time. No subject or header that a publisher chose ends the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from typing import Any

import nats.errors
from nats.aio.client import DEFAULT_FLUSH_TIMEOUT, Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.nuid import NUID
from nats.protocol.parser import PERMISSIONS_ERR, STALE_CONNECTION

from hogsend.transport.cancellation import honour_cancellation
from hogsend.transport.hpub import encode_headers
from hogsend.transport.nats_parser import NatsParser
from hogsend.transport.received_message import (
    HEADERS_START,
    ReceivedMessage,
    UnparsedHeaders,
    parse_headers,
)

MessageHandler = Callable[[Msg], None]
"""Handles a message without waiting. It must bound the memory of messages that it keeps."""

MAX_UNANNOUNCED_SERVERS = 3
"""How many servers are still tried although the connected server no longer announces them. While a
server restarts, the other ones do not announce it."""

CLOSE_SECONDS = 2.0
"""How long a close waits for the server to receive what was written before."""

_WEBSOCKET = frozenset({"ws", "wss"})


class NatsClient(Client):
    """nats-py's client, with these differences.

    A PONG for a flush that has timed out is accepted. nats-py stops reading at such a PONG, but
    still reports that it is connected: every request then times out until the server has missed
    three pings.

    An attempt to connect that is cancelled is the last one. nats-py uses `asyncio.wait_for`, which
    before Python 3.12 swallows a cancellation that arrives as the attempt fails, and then retries
    without end.

    An error from the server ends the connection, and the client reconnects. nats-py closes for good
    without reporting why, for example after a password was revoked, and does not reconnect once the
    password is valid again.

    A cancelled task ends. nats-py swallows a cancellation that arrives together with a reply, for
    the same reason as above, and any that arrives during a write. Code that cancels a task once, as
    `asyncio.TaskGroup` does, would wait for that task without end.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ps = NatsParser(self)
        self._inline_handlers: dict[int, MessageHandler] = {}

    async def connect(self, *given: Any, **options: Any) -> None:
        """Connect, as nats-py does, without state of a connection that was closed before.

        nats-py would keep the servers of the earlier connection, and tries each at most once a
        second.
        """
        self._server_pool = []
        self._inline_handlers = {}
        # After a fork, both processes would create the same inboxes and receive each other's
        # replies.
        self._nuid = NUID()
        await super().connect(*given, **options)

    async def subscribe_inline(self, subject: str, on_message: MessageHandler) -> Subscription:
        """Subscribe, and call `on_message` directly for each message as it is read.

        An exception of `on_message` is passed to the connection's error callback, as nats-py does
        for its own callbacks.
        """

        async def handle_queued(message: Msg) -> None:
            # A message that arrived before the handler was registered below.
            on_message(message)

        subscription = await self.subscribe(subject, cb=handle_queued)
        self._inline_handlers[subscription._id] = on_message  # noqa: SLF001
        return subscription

    async def drain_subscription(self, subscription: Subscription, seconds: float) -> None:
        """End a subscription of `subscribe_inline` after its handler got all messages sent for it.

        nats-py removes a subscription before the server has processed its UNSUB (`unsubscribe`), or
        waits for a PONG whose PING overtakes the UNSUB (`drain`). Messages that arrive in between
        are dropped.

        Args:
            subscription: removed afterwards, also after an error.
            seconds: how long the server may take.

        Raises:
            TimeoutError: it took longer.
            nats.errors.Error: the connection is closed.
        """
        try:
            # While disconnected there is nothing to send: the next server does not get to know the
            # subscription.
            if self.is_connected:
                async with asyncio.timeout(seconds):
                    await self._send_unsubscribe(subscription._id)  # noqa: SLF001
                    # Twice: see `Connection.flush`.
                    await self.flush()
                    await self.flush()
        finally:
            subscription._closed = True  # noqa: SLF001
            # A task that is left to the garbage collector is logged as an error.
            subscription._stop_processing()  # noqa: SLF001
            self._remove_sub(subscription._id)  # noqa: SLF001

    async def resubscribe(self, subjects: Container[str]) -> set[str]:
        """Send the SUB of existing subscriptions again, for a server that has dropped them.

        Args:
            subjects: subjects of these subscriptions, in lower case.

        Returns:
            The subjects a SUB was sent for. A subscription that has ended is not among them.
        """
        sent = set[str]()
        for subscription in list(self._subs.values()):
            if (subject := subscription.subject.lower()) in subjects:
                sent.add(subject)
                await self._send_subscribe(subscription)
        return sent

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._inline_handlers.pop(sid, None)
        super()._remove_sub(sid, max_msgs)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        on_message = self._inline_handlers.get(sid)
        if on_message is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        if headers.startswith(HEADERS_START):
            parsed: Any = UnparsedHeaders(headers)
        else:
            parsed = await self._process_headers(headers) if headers else None
        try:
            on_message(self._build_message(sid, subject, reply, data, parsed))
        except Exception as error:  # noqa: BLE001 - reading continues after any error
            await self._error_cb(error)

    async def _process_headers(self, headers: bytes | None) -> Any:
        if headers is not None and headers.startswith(HEADERS_START):
            return UnparsedHeaders(headers)
        try:
            return await super()._process_headers(headers)
        except (IndexError, UnicodeDecodeError):
            # The server does not check the headers of a message, and forwards any bytes.
            return None

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any
    ) -> Msg:
        # A subject may be invalid UTF-8. nats-py would close the connection, and receive the same
        # message again on the next one.
        message = ReceivedMessage(
            # By position, which takes half the time of keywords.
            self,
            subject.decode("utf-8", "replace"),
            reply.decode("utf-8", "replace"),
            data,
            headers,
        )
        message._sid = sid  # noqa: SLF001
        return message

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Publish, as nats-py does.

        Raises:
            nats.errors.MaxPayloadError: the message with its headers, which nats-py does not count,
                is larger than the server accepts. The server would close the connection.
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
        """Send a request, as nats-py does. A cancellation ends it."""
        # Checked first: nats-py keeps the state of a request that it could not send for good.
        self._check_size(payload, headers)
        reply = super().request(subject, payload, timeout, old_style, headers)
        return await honour_cancellation(reply)

    def _check_size(self, payload: bytes, headers: Mapping[str, str] | None) -> None:
        size = len(payload) + (len(encode_headers(headers)) if headers else 0)
        if size > self.max_payload:
            raise nats.errors.MaxPayloadError

    async def flush(self, timeout: int = DEFAULT_FLUSH_TIMEOUT) -> None:  # noqa: ASYNC109
        """Wait until the server has received what was written. A cancellation ends it."""
        await honour_cancellation(super().flush(timeout))

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """Close, also a lost connection with data that was not written yet.

        nats-py stops halfway at an error of the socket and at a cancellation.
        """
        abort_timer = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._abort)
        try:
            await super()._close(status, do_cbs)
        except (OSError, asyncio.CancelledError) as error:
            self._abort()
            if isinstance(self._transport, TcpTransport):
                # A second wait for its end would be cancelled at once, as the first one was. Other
                # transports, of WebSockets, are closed by that wait.
                self._transport = None
            self._pending, self._pending_data_size = [], 0
            self._status = Client.DISCONNECTED
            await super()._close(status, do_cbs)
            if isinstance(error, asyncio.CancelledError):
                raise
            await self._error_cb(error)
        finally:
            abort_timer.cancel()
            self._fail_pending_writes()

    def _fail_pending_writes(self) -> None:
        """Raise `ConnectionClosedError` in tasks that wait for their data to be written."""
        while self._flush_queue is not None and not self._flush_queue.empty():
            written = self._flush_queue.get_nowait()
            if not written.done():
                written.set_exception(nats.errors.ConnectionClosedError())
                # Marks the exception as retrieved: asyncio logs one that is not.
                written.exception()

    async def _attempt_reconnect(self) -> None:
        self._abort()
        await super()._attempt_reconnect()

    def _abort(self) -> None:
        """Drop the connection, and any data that was not sent yet.

        A close of the socket would wait for that data, without end where the server is frozen or
        the network is cut.
        """
        # A WebSocket transport has no writer; aiohttp closes it.
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        return await honour_cancellation(super()._flush_pending(force_flush))

    async def _connect_to_server(self, s: Srv) -> None:
        await honour_cancellation(super()._connect_to_server(s))
        if (transport := self._transport) is not None and s.uri.scheme not in _WEBSOCKET:
            # From Python 3.12 on, asyncio's own `writelines` raises a `TypeError` on a lost
            # connection, which nats-py does not handle, and never returns for an empty chunk.
            transport.writelines = lambda payload: transport.write(b"".join(payload))  # type: ignore[method-assign]

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        await super()._process_info(info, initial_connection)
        if not (announced := info.get("connect_urls")):
            return
        kept, unannounced = list[Srv](), list[Srv]()
        for server in self._server_pool:
            is_unannounced = server.discovered and server.uri.netloc not in announced
            (unannounced if is_unannounced else kept).append(server)
        # Moved to the end, the most recently announced ones come first, unless a reconnect has
        # shuffled the pool.
        self._server_pool = [*kept, *unannounced[:MAX_UNANNOUNCED_SERVERS]]

    async def _process_connect_init(self) -> None:
        await honour_cancellation(super()._process_connect_init())

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_err(self, err_msg: str) -> None:
        if any(handled in err_msg for handled in (PERMISSIONS_ERR, STALE_CONNECTION)):
            await super()._process_err(err_msg)
            return
        error = nats.errors.Error(f"nats: {err_msg}")
        await self._error_cb(error)
        await self._process_op_err(error)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        return parse_headers(raw)
