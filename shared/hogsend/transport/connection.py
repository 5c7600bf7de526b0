"""The connection to NATS: it reconnects without end, and every call has a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from hogsend.contract.consumers import EXTERNAL_STREAMS, OWN_API
from hogsend.contract.errors import Forbidden, TooLarge, Unavailable
from hogsend.contract.headers import CORRELATION_ID, REQUEST_ID
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.contract.users import User
from hogsend.transport.addresses import split_credentials, without_password
from hogsend.transport.correlation import correlation_id
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.jetstream import MANAGEMENT_SECONDS, FailFastJetStream
from hogsend.transport.log_once import LogOnce
from hogsend.transport.nats_client import NatsClient
from hogsend.transport.publisher import ACKNOWLEDGE_SECONDS, OutgoingMessage, Publisher
from hogsend.transport.refusals import Refusals
from hogsend.transport.request_watch import ServiceWatch, is_watched
from hogsend.transport.resubscriber import Resubscriber
from hogsend.transport.server_version import version_problem
from hogsend.transport.tls import TlsClient, client_context
from hogsend.transport.typed_requests import encode_request, read_reply

WRITE_SECONDS = 1.0
"""How long a request may wait to be written, on top of its deadline: nats-py's timeout starts after
the write."""

RELEASE_SECONDS = 8.0
"""How long a close waits for its hooks to nak messages. A frozen server does not accept naks."""

PONG_SECONDS = 0.5
"""How long the server may take to answer a PING that checks it after a request has timed out."""

MAX_CONNECT_ERRORS = 32
"""How many different errors are reported while disconnected."""

_PING_SECONDS = 5
_DEFAULT_MAX_PAYLOAD = 1024 * 1024

Observer = Callable[[str, str], None]
Hook = Callable[[], Awaitable[None]]


class Connection:
    """One process's connection to NATS. It reconnects without end; calls fail fast meanwhile."""

    def __init__(
        self,
        user: str,
        url: str,
        *,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Prepare without connecting.

        Args:
            user: NATS user name; also determines the inbox prefix.
            url: NATS addresses, separated by commas; may carry user and password.
            password: password of `user` when the address carries none.
            tls: require TLS, with this context; see `hogsend.transport.tls`. An address `tls://`
                requires it too, with the system's certificate authorities.
            observer: called with `(event, detail)` about connection changes and errors.
        """
        self._url = url
        self._password = password
        servers, _, _ = split_credentials(self.addresses)
        if tls is None and any(server.startswith("tls://") for server in servers):
            tls = client_context()
        self._tls = tls
        self.user = user
        self.client: NatsClient = TlsClient() if tls is not None else NatsClient()
        self.publisher = Publisher(self.client)
        self.refusals = Refusals(user, self.publisher)
        self.js: JetStreamContext = FailFastJetStream(self.client, self.refusals)
        self.observe: Observer = observer or (lambda _event, _detail: None)
        self._resubscriber = Resubscriber(
            self.client, self.refusals, flush=self.flush, on_granted=self._on_granted
        )
        self._reconnect_hooks: list[Hook] = []
        self._close_hooks: set[Hook] = set()
        self._watches: dict[User, ServiceWatch] = {}
        self._own_js: JetStreamContext | None = None
        self._was_opened = False
        self._was_connected = False
        self._disconnects = 0
        self._connect_errors = LogOnce(MAX_CONNECT_ERRORS)
        self.closed = False
        """Whether it was closed and not opened again. `Client.is_closed` is also True after a first
        attempt that failed."""

    @property
    def addresses(self) -> list[str]:
        """The configured NATS addresses, credentials included."""
        return self._url.split(",")

    @property
    def connected(self) -> bool:
        """Whether there is a connection to a server now."""
        return self.client.is_connected

    @property
    def last_max_payload(self) -> int | None:
        """Size limit of a message in bytes, of the last server; None before the first one."""
        return int(self.client.max_payload) if self._was_connected else None

    @property
    def max_payload(self) -> int:
        """Size limit of a message in bytes, of the current server; NATS' default without one."""
        return int(self.client.max_payload) if self.connected else _DEFAULT_MAX_PAYLOAD

    @property
    def server_version(self) -> str:
        """Version of the current server; empty while not connected."""
        return str(self.client._server_info.get("version", "")) if self.connected else ""  # noqa: SLF001

    @property
    def version_problem(self) -> str | None:
        """Why the current server's version is not supported; None if it is, and without a server.

        See `hogsend.transport.server_version`.
        """
        return version_problem(self.server_version)

    async def open(self) -> None:
        """Connect, retrying without end; cancel it to stop.

        Raises:
            nats.errors.ConnectionClosedError: the connection was closed meanwhile.
        """
        self.closed, self._was_opened = False, True
        self._connect_errors.reset()
        servers, user, password = split_credentials(self.addresses)
        if password is None and self._password is not None:
            user, password = self.user, self._password
        await self.client.connect(
            servers=servers,
            name=f"hogsend-{self.user}",
            user=user,
            password=password,
            tls=self._tls,
            inbox_prefix=inbox_prefix(self.user),
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            ping_interval=_PING_SECONDS,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnect,
            reconnected_cb=self._on_reconnect,
            closed_cb=self._on_closed,
            lame_duck_mode_cb=self._on_lame_duck,
        )
        if self.closed:
            # A close of nats-py's client does not stop an attempt in progress, which may succeed.
            await self.client.close()
            raise nats.errors.ConnectionClosedError
        self._was_connected = True
        self.observe("connected", without_password(self._url))

    async def close(self) -> None:
        """Nak messages that were pulled but not handled, then close.

        Waits at most `RELEASE_SECONDS` for the naks, which the hooks of `add_close_hook` send.
        """
        self.closed = True
        hooks = asyncio.gather(*(hook() for hook in self._close_hooks))
        try:
            done, _ = await asyncio.wait({hooks}, timeout=RELEASE_SECONDS)
            if not done:
                self.observe(
                    "error", f"not all messages were released within {RELEASE_SECONDS:g} s"
                )
        finally:
            # A hook that waits for a write can only end together with the connection. An error of a
            # cancelled one is retrieved: asyncio logs one that is not.
            hooks.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            hooks.cancel()
            await self._on_closed()
            if self._was_opened:
                await self.client.close()
        if done:
            hooks.result()

    def add_close_hook(self, hook: Hook) -> None:
        """Run `hook` during `close`, while still connected. It must end soon, and not raise."""
        self._close_hooks.add(hook)

    def remove_close_hook(self, hook: Hook) -> None:
        """Remove a hook of `add_close_hook`."""
        self._close_hooks.discard(hook)

    def on_reconnect(self, hook: Hook) -> None:
        """Run `hook` after every time in which subscriptions may have missed messages.

        That is after a reconnect, and after a refused subscription was granted.
        """
        self._reconnect_hooks.append(hook)

    async def publish(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        within: float = ACKNOWLEDGE_SECONDS,
    ) -> None:
        """Publish one message to JetStream; raises as `Publisher.publish`."""
        await self.publisher.publish(OutgoingMessage(subject, body, headers), within=within)

    async def flush(self, seconds: int = 10) -> None:
        """Wait until the server has processed everything sent so far, at most twice `seconds`.

        nats-py's own flush sends its PING ahead of data that is still in its buffer. With the first
        PONG that data has been sent, so that the second PONG confirms it.

        Raises:
            nats.errors.Error: the server cannot be reached or is slow.
        """
        await self.client.flush(seconds)
        await self.client.flush(seconds)

    async def listen(
        self,
        subject: str,
        on_message: Callable[[Msg], Awaitable[None]],
        *,
        pending_bytes: int,
    ) -> Callable[[], Awaitable[None]]:
        """Subscribe to `subject`. The subscription is renewed after each reconnect.

        Args:
            subject: may contain wildcards.
            on_message: called with one message after the other.
            pending_bytes: byte limit of messages that wait for `on_message`; beyond it they are
                dropped.

        Returns:
            A function that ends the subscription, and does not raise.

        Raises:
            Unavailable: NATS cannot be reached.
            Forbidden: this NATS user may not subscribe to `subject`.
        """
        if not self.connected:
            raise Unavailable("NATS is not connected")
        refusal = self.refusals.of_subscription(subject)
        try:
            subscription = await self.client.subscribe(
                subject, cb=on_message, pending_bytes_limit=pending_bytes
            )
        except UNREACHABLE as error:
            raise Unavailable("NATS did not answer") from error

        async def unsubscribe() -> None:
            # With the connection closed meanwhile, the subscription has ended as well.
            with contextlib.suppress(*UNREACHABLE):
                await subscription.unsubscribe()

        is_subscribed = False
        try:
            # The server sends a refusal before the reply to this.
            await self.flush()
            if refusal.done():
                raise Forbidden(f"NATS user {str(self.user)!r} may not subscribe to {subject}")
            is_subscribed = True
        except UNREACHABLE as error:
            raise Unavailable("NATS did not answer") from error
        finally:
            if not is_subscribed:
                # The caller gets no function to end it, and nats-py would keep it for good.
                await unsubscribe()
        return unsubscribe

    async def request(
        self,
        endpoint: Endpoint[Request, Reply],
        message: Request,
        *,
        deadline: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send a request to a service, and wait for its reply.

        The correlation id of the caller's context is sent along. A longer deadline than three
        seconds is for a service that is slow, not for one that is frozen: see
        `hogsend.transport.request_watch`.

        Args:
            endpoint: names the service and the types of request and reply.
            message: the request.
            deadline: limit in seconds; the endpoint's by default. Where NATS itself does not
                respond, detecting that takes up to 1.5 seconds more.
            headers: further headers of the request.

        Raises:
            Unavailable: NATS or the service cannot be reached, no replica of the service has the
                request, or the deadline passed.
            Forbidden: this NATS user may not send that request.
            InvalidRequest: the request cannot be encoded as JSON.
            TooLarge: the request or its reply is larger than NATS accepts.
            UnreadableReply: the reply is not of the endpoint's reply type.
            HogsendError: the typed error that the service replied with.
        """
        if not self.connected:
            raise Unavailable("NATS is not connected")
        if deadline is None:
            deadline = endpoint.deadline
        body, disconnects = encode_request(message), self._disconnects
        sent_headers = self._request_headers(headers)
        watched = self._watch_of(endpoint.service).add() if is_watched(deadline) else None
        if watched is not None:
            sent_headers[REQUEST_ID] = watched.id
        try:
            reply = await self.request_raw(
                endpoint.subject,
                body,
                seconds=deadline,
                headers=sent_headers or None,
                lost=None if watched is None else watched.lost,
            )
        except nats.errors.NoRespondersError as error:
            raise Unavailable(f"the {endpoint.service} service is not running") from error
        except nats.errors.MaxPayloadError as error:
            raise TooLarge(f"the request is larger than NATS takes ({self.max_payload})") from error
        except UNREACHABLE as error:
            has_timed_out = isinstance(error, TimeoutError) and disconnects == self._disconnects
            is_nats_up = has_timed_out and await self._answers_ping()
            silent = f"the {endpoint.service} service" if is_nats_up else "NATS"
            raise Unavailable(f"{silent} did not answer within {deadline:g} s") from error
        finally:
            if watched is not None:
                self._watch_of(endpoint.service).remove(watched)
        return read_reply(endpoint, reply)

    def _watch_of(self, service: User) -> ServiceWatch:
        watch = self._watches.get(service)
        if watch is None:
            watch = self._watches[service] = ServiceWatch(
                self.client, self.refusals, answers_ping=self._answers_ping, service=service
            )
        return watch

    async def _answers_ping(self) -> bool:
        """Return whether the server responds. A frozen one counts as connected for some pings.

        Messages that the server has sent before are processed first.
        """
        try:
            async with asyncio.timeout(PONG_SECONDS):
                await self.flush()
        except UNREACHABLE:
            return False
        return True

    async def request_raw(
        self,
        subject: str,
        body: bytes,
        *,
        seconds: float,
        headers: dict[str, str] | None = None,
        lost: asyncio.Future[Unavailable] | None = None,
    ) -> Msg:
        """Send a request, and return its reply as it is, also one that reports an error.

        Args:
            subject: of the request.
            body: of the request.
            seconds: limit of the wait.
            headers: of the request.
            lost: done when no reply is expected any more, with the error to raise.

        Raises:
            Unavailable: `lost` is done.
            Forbidden: this NATS user may not publish to `subject`, or not receive replies. nats-py
                would time out instead.
            nats.errors.Error: not connected, no service subscribes to `subject`, or no reply within
                `seconds`.
        """
        request = self.client.request(subject, body, timeout=seconds, headers=headers)
        return await self.refusals.wait_unless_refused(
            subject, request, seconds=seconds + WRITE_SECONDS, lost=lost
        )

    async def js_for(self, stream: str) -> JetStreamContext:
        """Return the JetStream API with which Hogsend's services manage consumers of `stream`.

        Where other people's services may create consumers of a stream, ingest checks requests on
        JetStream's usual subjects. Hogsend's services skip that check: they use the subjects below
        `OWN_API`. A NATS server without Hogsend's configuration does not have those, so that the
        usual ones are used.

        Raises:
            nats.errors.Error: not connected, or no reply.
        """
        if stream not in EXTERNAL_STREAMS:
            return self.js
        if self._own_js is None:
            subject = f"{OWN_API}.STREAM.INFO.{stream}"
            try:
                await self.request_raw(subject, b"", seconds=MANAGEMENT_SECONDS)
            except (Forbidden, nats.errors.NoRespondersError):
                return self.js
            self._own_js = FailFastJetStream(self.client, self.refusals, prefix=OWN_API)
        return self._own_js

    def _request_headers(self, given: Mapping[str, str] | None) -> dict[str, str]:
        headers = dict(given) if given else {}
        if correlation := correlation_id.get():
            headers.setdefault(CORRELATION_ID, correlation)
        if self.publisher.inject is not None:
            self.publisher.inject(headers)
        return headers

    async def _on_error(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        # While disconnected, each server is tried every second, mostly with the same error.
        if self.connected or self._connect_errors.is_new(text):
            self.observe("error", text)
        self.refusals.process_error(str(error))
        self._resubscriber.start()

    async def _on_disconnect(self) -> None:
        self._disconnects += 1
        self._own_js = None
        self._connect_errors.reset()
        self.refusals.reset()
        self.observe("disconnected", "")

    async def _on_lame_duck(self) -> None:
        # Tells a planned restart of the server from a broken connection.
        url = self.client.connected_url
        self.observe("lame duck", without_password(url.geturl()) if url else "")

    async def _on_closed(self) -> None:
        # nats-py calls this when its client is closed directly, too.
        self.closed = True
        self.publisher.connection_closed()
        self._resubscriber.stop()

    async def _on_reconnect(self) -> None:
        self.observe("reconnected", "")
        await self._run_reconnect_hooks()

    async def _on_granted(self) -> None:
        self.observe("subscribed again", "")
        await self._run_reconnect_hooks()

    async def _run_reconnect_hooks(self) -> None:
        for hook in self._reconnect_hooks:
            await hook()
