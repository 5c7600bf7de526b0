"""A service as a FastStream application, with its start and stop in order.

Start: the background tasks run first, so that the service also retries PostgreSQL while NATS cannot
be reached. Then it connects to NATS, creates the streams that it owns, and starts its subscribers.
It waits for a dependency that is unavailable.

Stop: the subscribers finish, then the background tasks are cancelled, then the connections close.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import structlog
from faststream import FastStream

from hogsend.contract.errors import CannotStart, Unavailable
from hogsend.contract.streams import DEFAULT_LIMITS, Limits
from hogsend.service import bus_health, metrics, streams, unhandled
from hogsend.service.broker import ServiceBroker
from hogsend.service.database import Database
from hogsend.service.retry import retry_until_available
from hogsend.service.tasks import Work, running
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.log_once import LogOnce

log = structlog.get_logger(__name__)

STREAM_RETRY_MAX_SECONDS = 2.0
"""Longest pause between attempts to create the streams at the start."""
PURGE_STRAYS_SECONDS = 30.0
"""How often a service deletes misplaced messages from its streams."""
CHECK_STREAMS_SECONDS = 5.0
"""How often a service checks that its streams exist."""
MAX_LOGGED_REASONS = 32
"""How many different reasons are logged while NATS refuses the same work. Every attempt is counted
in `hogsend_failures_total`."""

Hook = Callable[[], Awaitable[None]]


def service_app(
    broker: ServiceBroker,
    *,
    database: Database | None = None,
    background: Sequence[Work] = (),
    connected: Sequence[Hook] = (),
    stopping: Sequence[Hook] = (),
    closing: Sequence[Hook] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> FastStream:
    """Create the application of a service; `await app.run()` runs it until SIGTERM or SIGINT.

    Args:
        broker: its routers are included and its dependencies provided.
        database: kept connected, and closed last. The subscribers start after the first attempt to
            connect.
        background: tasks that run from before NATS is connected until the subscribers have stopped.
            If one fails, the service stops.
        connected: called in order when NATS is connected, before the subscribers start.
        stopping: called in order at a stop, before the subscribers finish.
        closing: called in order at the end, after the background tasks have ended.
        limits: the operator's limits on streams.
    """
    if database is not None:
        background = [database.keep_connected, *background]
        connected = [*connected, database.wait_for_first_attempt]
        closing = [*closing, database.close]

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        with unhandled.reporting():
            try:
                async with running(
                    [
                        *background,
                        lambda: _check_streams(broker, limits),
                        lambda: _purge_strays(broker),
                    ],
                    on_failure=app.exit,
                ):
                    yield
            finally:
                await _run(closing)

    async def prepare() -> None:
        await broker.connect()
        if problem := broker.link.version_problem:
            raise CannotStart(problem)
        await _run(connected)
        reasons = LogOnce(MAX_LOGGED_REASONS)
        await retry_until_available(
            lambda: _declare_streams(broker, limits, reasons), wait_max=STREAM_RETRY_MAX_SECONDS
        )

    async def log_started() -> None:
        try:
            await broker.link.flush()
        except UNREACHABLE as error:
            # nats-py renews the subscriptions when it has reconnected.
            metrics.FAILURES.labels("start", type(error).__name__).inc()
            log.warning("NATS was lost while the service started", reason=str(error))
        log.info("serving", endpoints=[endpoint.subject for endpoint in broker.endpoints])

    async def stop() -> None:
        log.info("stopping")
        await _run(stopping)

    app = FastStream(
        broker,
        logger=None,
        lifespan=lifespan,
        on_startup=[prepare],
        after_startup=[log_started],
        on_shutdown=[stop],
    )
    return app


async def _run(hooks: Sequence[Hook]) -> None:
    for hook in hooks:
        await hook()


@asynccontextmanager
async def started(app: FastStream) -> AsyncIterator[FastStream]:
    """Run an application during the block, without signal handlers: for tests and benchmarks."""
    async with app.lifespan_context():
        await app.start()
        try:
            yield app
        finally:
            await app.stop()


async def _declare_streams(broker: ServiceBroker, limits: Limits, reasons: LogOnce) -> None:
    try:
        await streams.reconcile(broker.link.js, broker.user, limits)
    except UNREACHABLE as error:
        metrics.FAILURES.labels("streams", type(error).__name__).inc()
        reason = streams.reason(error)
        if reasons.is_new(reason):
            log.warning("streams are not ready yet", reason=reason, fix=streams.hint(error))
        raise Unavailable(f"streams are not ready: {type(error).__name__}") from error


async def _purge_strays(broker: ServiceBroker) -> None:
    """Regularly delete messages that readers of other streams had delivered into the streams."""
    reasons = LogOnce(MAX_LOGGED_REASONS)
    while True:
        await asyncio.sleep(PURGE_STRAYS_SECONDS)
        if not broker.running or not broker.link.connected:
            continue
        try:
            purged = await streams.purge_strays(broker.link.js, broker.user)
        except UNREACHABLE as error:
            metrics.FAILURES.labels("strays", type(error).__name__).inc()
            if reasons.is_new(reason := streams.reason(error)):
                log.warning("streams were not checked", reason=reason)
            continue
        reasons.reset()
        if purged:
            metrics.FAILURES.labels("strays", "purged").inc(sum(purged.values()))
            log.warning("copies of other streams' messages deleted", messages=purged)


async def _check_streams(broker: ServiceBroker, limits: Limits) -> None:
    """Regularly recreate streams that were deleted or lost with JetStream's disk."""
    reasons = LogOnce(MAX_LOGGED_REASONS)
    while True:
        await asyncio.sleep(CHECK_STREAMS_SECONDS)
        if not broker.running or not broker.link.connected:
            continue
        try:
            created = await streams.recreate_missing(broker.link.js, broker.user, limits)
        except UNREACHABLE as error:
            metrics.FAILURES.labels("streams", type(error).__name__).inc()
            if reasons.is_new(reason := streams.reason(error)):
                log.warning("streams were not restored", reason=reason, fix=streams.hint(error))
            continue
        reasons.reset()
        if created:
            log.warning("streams were missing and were created again, empty", streams=created)
        await _check_bus(broker, limits)


async def _check_bus(broker: ServiceBroker, limits: Limits) -> None:
    link = broker.link
    try:
        problems = await bus_health.find_problems(link.js, broker.user, limits, link.addresses)
    except UNREACHABLE as error:
        # The last result may be outdated: report no problems until the next check.
        metrics.FAILURES.labels("bus_health", type(error).__name__).inc()
        log.debug("NATS could not be checked", reason=str(error) or type(error).__name__)
        problems = []
    if problems and problems != bus_health.bus_problems():
        log.warning(
            "NATS has problems that need an operator", problems=problems, fix="docs/deploy.md"
        )
    bus_health.store_problems(problems)
