"""The connection to NATS: kept up, asked with a deadline, published on."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js import errors as js_errors

from hogsend.contract.consumers import OWN_API, STREAMS_OF_OTHERS
from hogsend.contract.errors import Forbidden, TooLarge, Unavailable
from hogsend.contract.headers import CORRELATION_ID
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.transport.addresses import split_credentials, without_password
from hogsend.transport.correlation import correlation_id
from hogsend.transport.log_once import LogOnce
from hogsend.transport.nats_client import NatsClient
from hogsend.transport.publisher import ACKNOWLEDGE_SECONDS, OutgoingMessage, Publisher
from hogsend.transport.refusals import Refusals
from hogsend.transport.server_version import version_problem
from hogsend.transport.tls import TlsClient, client_context
from hogsend.transport.typed_requests import encode_request, read_reply

MANAGEMENT_SECONDS = 10.0
"""Seconds JetStream may take to make or change a stream or consumer, which waits for its disk."""

PENDING_BYTES = 8 * 1024 * 1024
"""Most that waits in NATS' client for one subscription whose messages this process has not asked
for, beside one message of any size. What comes then is dropped: a request is not answered in
time."""

WRITE_SECONDS = 1.0
"""How much longer than its deadline a request may take that waits to be written: nats-py counts its
time from then on."""

GIVE_BACK_SECONDS = 8.0
"""How long a close waits for what is given back; a server that is frozen does not take it."""

_PING_SECONDS = 5

PONG_SECONDS = 0.5
"""How long NATS may take to say that it is there, after a request was not answered in time."""

REFUSED_SECONDS = 30.0
"""Pause before the server is asked again for subscriptions that it refuses."""

MOST_ERRORS = 32
"""Different errors that are told of between two connections."""

UNREACHABLE = (nats.errors.Error, js_errors.Error, TimeoutError, OSError)
"""What nats-py raises while NATS, JetStream or a stream cannot be reached."""

T = TypeVar("T")

Observer = Callable[[str, str], None]
Hook = Callable[[], Awaitable[None]]


class Connection:
    """One connection of one process. It reconnects without end; calls fail fast meanwhile."""

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
            user: NATS user name; also picks the inbox prefix.
            url: NATS addresses, separated by commas; may carry user and password.
            password: password of `user` when the address carries none.
            tls: insist on TLS, in this way; see `hogsend.transport.tls`. An address `tls://`
                insists on it too, trusting the system's authorities.
            observer: told `(what happened, detail)` about connection changes and errors.
        """
        self._url = url
        self._password = password
        servers, _, _ = split_credentials(self.addresses)
        if tls is None and any(server.startswith("tls://") for server in servers):
            tls = client_context()
        self._tls = tls
        self.user = user
        self.client: NatsClient = TlsClient() if tls is not None else NatsClient()
        self.js: JetStreamContext = self.client.jetstream(timeout=MANAGEMENT_SECONDS)
        self.publisher = Publisher(self.client)
        self.observe: Observer = observer or (lambda _what, _detail: None)
        self.refusals = Refusals(user, self.publisher)
        self._reconnect_hooks: list[Hook] = []
        self._close_hooks: set[Hook] = set()
        self._own_js: JetStreamContext | None = None
        self._has_begun = False
        self._has_connected = False
        self._times_lost = 0
        self._asking: asyncio.Task[None] | None = None
        self._connect_errors = LogOnce(MOST_ERRORS)
        self.closed = False
        """Whether it was closed, and not opened again. `Client.is_closed` says so of a first
        attempt that failed, too."""

    @property
    def addresses(self) -> list[str]:
        """The NATS addresses it was given, credentials included."""
        return self._url.split(",")

    @property
    def connected(self) -> bool:
        """Whether the server can be talked to right now."""
        return self.client.is_connected

    @property
    def last_max_payload(self) -> int | None:
        """Largest message the server last connected to takes, in bytes; None before the first."""
        return int(self.client.max_payload) if self._has_connected else None

    @property
    def version_problem(self) -> str | None:
        """What is wrong with the server's version; None for one that will do, or without one.

        See `hogsend.transport.server_version`.
        """
        return version_problem(self.server_version)

    @property
    def server_version(self) -> str:
        """The server's version; empty while not connected."""
        return str(self.client._server_info.get("version", "")) if self.connected else ""  # noqa: SLF001

    @property
    def max_payload(self) -> int:
        """Largest message the server takes, in bytes; NATS' default while not connected."""
        return int(self.client.max_payload) if self.connected else 1024 * 1024

    async def open(self) -> None:
        """Connect, retrying without end; cancel it to stop.

        Raises:
            nats.errors.ConnectionClosedError: the connection was closed meanwhile.
        """
        self.closed, self._has_begun = False, True
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
            # An attempt that is under way when NATS' client is closed goes on, and may succeed.
            await self.client.close()
            raise nats.errors.ConnectionClosedError
        self._has_connected = True
        self.observe("connected", without_password(self._url))

    async def close(self) -> None:
        """Close, once what was on its way here is given back; that is not waited for long."""
        self.closed = True
        given_back = asyncio.gather(*(hook() for hook in self._close_hooks))
        try:
            done, _ = await asyncio.wait({given_back}, timeout=GIVE_BACK_SECONDS)
            if not done:
                self.observe("error", f"not all was given back within {GIVE_BACK_SECONDS:g} s")
        finally:
            # What waits to be written ends with the connection, and not before.
            given_back.cancel()
            await self._on_closed()
            if self._has_begun:
                await self.client.close()
        if done:
            given_back.result()

    def add_close_hook(self, hook: Hook) -> None:
        """Run `hook` while it is closed and still connected; it ends soon, and raises nothing."""
        self._close_hooks.add(hook)

    def remove_close_hook(self, hook: Hook) -> None:
        """Forget a hook of `add_close_hook`."""
        self._close_hooks.discard(hook)

    def on_reconnect(self, hook: Hook) -> None:
        """Run `hook` after every time in which nothing was heard, or not everything."""
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
        """Wait until the server has seen everything sent so far, at most `seconds` twice.

        nats-py's own flush sends its PING ahead of what is still in its buffer. Once that is
        answered the buffer is out, and the answer to a second one comes after it.

        Raises:
            nats.errors.Error: the server cannot be reached or is slow.
        """
        await self.client.flush(seconds)
        await self.client.flush(seconds)

    async def listen(
        self,
        subject: str,
        heard: Callable[[Msg], Awaitable[None]],
        *,
        pending_bytes: int,
    ) -> Callable[[], Awaitable[None]]:
        """Hear what is published on `subject` from now on, also after NATS was down.

        Args:
            subject: may hold wildcards.
            heard: called with one message after the other.
            pending_bytes: what may wait for `heard`; more is dropped.

        Returns:
            What ends it, and raises nothing.

        Raises:
            Unavailable: NATS cannot be reached.
            Forbidden: this NATS user may not hear that.
        """
        if not self.connected:
            raise Unavailable("NATS is not connected")
        refusal = self.refusals.of_subscription(subject)
        try:
            subscription = await self.client.subscribe(
                subject, cb=heard, pending_bytes_limit=pending_bytes
            )
        except UNREACHABLE as error:
            raise Unavailable("NATS did not answer") from error

        async def end() -> None:
            # Closed meanwhile, it has ended as well.
            with contextlib.suppress(*UNREACHABLE):
                await subscription.unsubscribe()

        listens = False
        try:
            # The server says that it refuses before it answers this.
            await self.flush()
            if refusal.done():
                raise Forbidden(f"NATS user {str(self.user)!r} may not subscribe to {subject}")
            listens = True
        except UNREACHABLE as error:
            raise Unavailable("NATS did not answer") from error
        finally:
            if not listens:
                # The caller has nothing to end it with, and NATS' client would keep it for good.
                await end()
        return end

    async def request(
        self,
        endpoint: Endpoint[Request, Reply],
        message: Request,
        *,
        deadline: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Ask a service and wait at most `deadline` seconds, by default the endpoint's.

        The correlation id of the caller's context is sent along. Where NATS itself takes
        or answers nothing any more, finding that out takes up to 1.5 seconds more.

        Raises:
            Unavailable: NATS or the service cannot be reached, or the deadline passed.
            Forbidden: this NATS user may not ask that.
            InvalidRequest: the request is no JSON.
            TooLarge: the request, or its answer, is larger than NATS takes.
            UnreadableReply: the answer has another shape than the endpoint's reply.
            HogsendError: the typed error the service answered with.
        """
        if not self.connected:
            raise Unavailable("NATS is not connected")
        if deadline is None:
            deadline = endpoint.deadline
        body, lost = encode_request(message), self._times_lost
        try:
            answer = await self.request_raw(
                endpoint.subject,
                body,
                seconds=deadline,
                headers=self._headers(headers),
            )
        except nats.errors.NoRespondersError as error:
            raise Unavailable(f"the {endpoint.service} service is not running") from error
        except nats.errors.MaxPayloadError as error:
            raise TooLarge(f"the request is larger than NATS takes ({self.max_payload})") from error
        except UNREACHABLE as error:
            is_carried = isinstance(error, TimeoutError) and lost == self._times_lost
            late = is_carried and await self._nats_answers()
            silent = f"the {endpoint.service} service" if late else "NATS"
            raise Unavailable(f"{silent} did not answer within {deadline:g} s") from error
        return read_reply(endpoint, answer)

    async def _nats_answers(self) -> bool:
        """Whether NATS is there; frozen, it is connected for as long as it may miss pings."""
        try:
            async with asyncio.timeout(PONG_SECONDS):
                await self.client.flush()
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
    ) -> Msg:
        """Send one request and wait at most `seconds` for its answer, whatever that says.

        Raises:
            Forbidden: this NATS user may not publish to `subject`, or not hear what is answered.
                nats-py would time out instead.
            nats.errors.Error: not connected, no service answers, or not in time.
        """
        asking = self.client.request(subject, body, timeout=seconds, headers=headers)
        return await self.wait_unless_refused(subject, asking, seconds=seconds + WRITE_SECONDS)

    async def wait_unless_refused(
        self, subject: str, asking: Coroutine[Any, Any, T], *, seconds: float | None = None
    ) -> T:
        """Wait for what nats-py asks on `subject`, which would wait in vain where it is refused.

        Raises:
            Forbidden: this NATS user may not publish to `subject`, or not hear what is answered.
            nats.errors.TimeoutError: it took longer than `seconds`.
        """
        if self.refusals.hears_nothing:
            asking.close()
            raise self.refusals.error(subject)
        refusal, answer = self.refusals.of(subject), asyncio.ensure_future(asking)
        waiting: set[asyncio.Future[Any]] = {answer, refusal}
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
        finally:
            answer.cancel()
        if refusal.done():
            raise self.refusals.error(subject)
        raise nats.errors.TimeoutError

    async def request_many(self, subject: str, *, seconds: float) -> list[bytes]:
        """Ask everybody who answers on `subject`, and give what arrives within `seconds`.

        Raises:
            Unavailable: NATS cannot be reached.
            Forbidden: this NATS user may not ask that.
        """
        answers: list[bytes] = []

        async def hear(message: Msg) -> None:
            # Without anybody the server says so, with a status and no body.
            if message.data:
                answers.append(message.data)

        inbox = self.client.new_inbox()
        end = await self.listen(inbox, hear, pending_bytes=pending_bytes(self.client))
        refusal = self.refusals.of(subject)
        try:
            await self.client.publish(subject, b"", reply=inbox)
            await asyncio.wait({refusal}, timeout=seconds)
        except UNREACHABLE as error:
            raise Unavailable("NATS did not accept the request") from error
        finally:
            await end()
        if refusal.done():
            raise self.refusals.error(subject)
        return answers

    async def js_for(self, stream: str) -> JetStreamContext:
        """The JetStream to make and delete consumers of `stream` with, as one of our services.

        Consumers that others make too are asked for below `OWN_API`, where ingest does not check
        them first. A NATS server that is not configured by us has no such subject: there
        JetStream's own is the one.

        Raises:
            nats.errors.Error: not connected, or no answer.
        """
        if stream not in STREAMS_OF_OTHERS:
            return self.js
        if self._own_js is None:
            asked = f"{OWN_API}.STREAM.INFO.{stream}"
            try:
                await self.request_raw(asked, b"", seconds=MANAGEMENT_SECONDS)
            except (Forbidden, nats.errors.NoRespondersError):
                return self.js
            self._own_js = self.client.jetstream(prefix=OWN_API, timeout=MANAGEMENT_SECONDS)
        return self._own_js

    def _headers(self, given: Mapping[str, str] | None) -> dict[str, str] | None:
        headers = dict(given) if given else {}
        if correlation := correlation_id.get():
            headers.setdefault(CORRELATION_ID, correlation)
        if self.publisher.inject is not None:
            self.publisher.inject(headers)
        return headers or None

    async def _on_error(self, error: Exception) -> None:
        said = f"{type(error).__name__}: {error}"
        # Each server is tried each second, for as long as none can be reached.
        if self.connected or self._connect_errors.is_new(said):
            self.observe("error", said)
        self.refusals.read(str(error))
        if self.refusals.subscriptions and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask_until_granted())

    async def _ask_until_granted(self) -> None:
        # A server that reads its configuration anew keeps its connections. It forgets what they may
        # not listen to any more, and does not say what they may. NATS' client knows of neither:
        # each service would have to be restarted.
        while self.refusals.subscriptions:
            await asyncio.sleep(REFUSED_SECONDS)
            if self.connected:
                with contextlib.suppress(*UNREACHABLE):
                    await self._ask_again()

    async def _ask_again(self) -> None:
        refused = frozenset(self.refusals.subscriptions)
        self.refusals.forget()
        asked = await self.client.resubscribe(refused)
        # The server says that it refuses before it answers this.
        await self.flush()
        if asked - self.refusals.subscriptions:
            self.observe("subscribed again", "")
            await self._run_hooks()

    async def _on_disconnect(self) -> None:
        self._times_lost += 1
        self._own_js = None
        self._connect_errors.reset()
        self.refusals.forget()
        self.observe("disconnected", "")

    async def _on_lame_duck(self) -> None:
        # Else a planned restart looks like a connection that broke.
        url = self.client.connected_url
        self.observe("lame duck", without_password(url.geturl()) if url else "")

    async def _on_closed(self) -> None:
        # Also when nats-py's client was closed by itself.
        self.closed = True
        self.publisher.closed()
        if self._asking is not None:
            self._asking.cancel()

    async def _on_reconnect(self) -> None:
        self.observe("reconnected", "")
        await self._run_hooks()

    async def _run_hooks(self) -> None:
        for hook in self._reconnect_hooks:
            await hook()


def pending_bytes(client: Client) -> int:
    """Give the limit for a subscription; nats-py's own is 128 MiB for each."""
    return PENDING_BYTES + client.max_payload
