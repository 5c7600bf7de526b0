"""A service as a FastStream application: started while anything is missing, stopped in order.

It connects, declares the streams it owns, and starts its subscribers; what it runs besides, it runs
from the beginning, so that PostgreSQL is looked for while NATS cannot be reached. At a stop the
subscribers finish first, then what runs besides is cancelled, then the connections are closed.
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

log = structlog.get_logger(__name__)

STREAM_RETRY_MAX_SECONDS = 2.0
KEEP_CLEAN_SECONDS = 30.0
"""How often streams are looked through for what does not belong there."""
KEEP_STREAMS_SECONDS = 5.0
"""How often a service looks whether its streams are still there."""

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
    """Make the application of a service; `await app.run()` runs it until SIGTERM or SIGINT.

    Args:
        broker: with its routers included and its dependencies provided.
        database: kept connected; nothing is answered before it was tried, and it is closed last.
        background: runs beside the subscribers, from before NATS is connected until they have
            stopped. One that fails ends the service.
        connected: run when NATS is connected and before anything is answered, in order.
        stopping: run at a stop before the subscribers finish, in order.
        closing: run at the very end, in order, when nothing of `background` runs any more.
        limits: what the operator says about streams.
    """
    if database is not None:
        background = [database.keep_connected, *background]
        connected = [*connected, database.wait_for_first_attempt]
        closing = [*closing, database.close]

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        with unhandled.counted():
            try:
                async with running(
                    [
                        *background,
                        lambda: _keep_streams(broker, limits),
                        lambda: _keep_clean(broker),
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
        await retry_until_available(
            lambda: _declare_streams(broker, limits), wait_max=STREAM_RETRY_MAX_SECONDS
        )

    async def announce() -> None:
        try:
            await broker.link.flush()
        except UNREACHABLE as error:
            # nats-py subscribes again once it is back.
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
        after_startup=[announce],
        on_shutdown=[stop],
    )
    return app


async def _run(hooks: Sequence[Hook]) -> None:
    for hook in hooks:
        await hook()


@asynccontextmanager
async def started(app: FastStream) -> AsyncIterator[FastStream]:
    """Run an application for the length of a block, without signals: for tests and benchmarks."""
    async with app.lifespan_context():
        await app.start()
        try:
            yield app
        finally:
            await app.stop()


async def _declare_streams(broker: ServiceBroker, limits: Limits) -> None:
    try:
        await streams.reconcile(broker.link.js, broker.user, limits)
    except UNREACHABLE as error:
        metrics.FAILURES.labels("streams", type(error).__name__).inc()
        log.warning(
            "streams are not ready yet", reason=streams.reason(error), fix=streams.hint(error)
        )
        raise Unavailable(f"streams are not ready: {type(error).__name__}") from error


async def _keep_clean(broker: ServiceBroker) -> None:
    """Delete from its streams what readers had JetStream put there."""
    while True:
        await asyncio.sleep(KEEP_CLEAN_SECONDS)
        if not broker.running or not broker.link.connected:
            continue
        try:
            purged = await streams.purge_strays(broker.link.js, broker.user)
        except UNREACHABLE as error:
            metrics.FAILURES.labels("strays", type(error).__name__).inc()
            log.warning("streams were not checked", reason=str(error))
            continue
        if purged:
            metrics.FAILURES.labels("strays", "purged").inc(sum(purged.values()))
            log.warning("copies of other streams' messages deleted", messages=purged)


async def _keep_streams(broker: ServiceBroker, limits: Limits) -> None:
    """Make streams again that were lost while this runs: with JetStream's disk, or by hand."""
    while True:
        await asyncio.sleep(KEEP_STREAMS_SECONDS)
        if not broker.running or not broker.link.connected:
            continue
        try:
            made = await streams.restore(broker.link.js, broker.user, limits)
        except UNREACHABLE as error:
            metrics.FAILURES.labels("streams", type(error).__name__).inc()
            log.warning(
                "streams were not restored", reason=streams.reason(error), fix=streams.hint(error)
            )
            continue
        if made:
            log.warning("streams were missing and were created again, empty", streams=made)
        await _look_at_bus(broker, limits)


async def _look_at_bus(broker: ServiceBroker, limits: Limits) -> None:
    link = broker.link
    try:
        found = await bus_health.examine(link.js, broker.user, limits, link.addresses)
    except UNREACHABLE as error:
        # Then this is not known any more.
        metrics.FAILURES.labels("bus_health", type(error).__name__).inc()
        log.debug("NATS cannot be examined", reason=str(error) or type(error).__name__)
        found = []
    if found and found != bus_health.bus_problems():
        log.warning("NATS has problems that need an operator", problems=found, fix="docs/deploy.md")
    bus_health.note(found)
