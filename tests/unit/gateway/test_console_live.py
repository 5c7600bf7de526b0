"""The stream of published events: which pages receive it, how many events, and when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hogsend.contract.errors import Unavailable
from hogsend.contract.events import Event
from services.gateway.body_budget import IN_MEMORY
from services.gateway.console import live
from services.gateway.console.live import MAX_EVENTS, MAX_WATCHERS, EventFilter, LiveEvents
from tests.unit.gateway.fakes import INGEST_KEY, FakeGateway, bearer, fake_gateway
from tests.waiting import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Bus:
    """Publishes events to its subscribers."""

    def __init__(self) -> None:
        self.handlers: list[Callable[[Any], Awaitable[None]]] = []
        self.fails = False
        self.connected = True

    async def listen(
        self, subject: str, handler: Callable[[Any], Awaitable[None]], **_limits: int
    ) -> Callable[[], Awaitable[None]]:
        assert subject == "hogsend.events.*"
        if self.fails:
            raise Unavailable("NATS is not connected")
        self.handlers.append(handler)

        async def end() -> None:
            self.handlers.remove(handler)

        return end

    async def announce(self, name: str = "signed_up", *, times: int = 1, **fields: Any) -> None:
        event = Event(
            **{
                "id": "e-1",
                "event": name,
                "user_id": "ada",
                "contact_key": "ada",
                "source": "posthog",
                "occurred_at": NOW,
                "received_at": NOW,
                "properties": {"secret": "not sent"},
                **fields,
            }
        )
        for _ in range(times):
            await self.publish(msgspec.json.encode(event))

    async def publish(self, data: bytes) -> None:
        for handler in self.handlers:
            await handler(SimpleNamespace(data=data))


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def events(bus: Bus) -> LiveEvents:
    served: Any = bus
    return LiveEvents(served, every_seconds=0.001)


async def open_stream(
    events: LiveEvents, event_filter: EventFilter | None = None
) -> AsyncIterator[bytes]:
    stream = await events.watch(event_filter or EventFilter())
    assert await anext(stream) == b"retry: 1000\n\n"
    return stream


async def batch(stream: AsyncIterator[bytes]) -> Any:
    piece = await anext(stream)
    assert piece.startswith(b"data: ")
    assert piece.endswith(b"\n\n")
    return msgspec.json.decode(piece.removeprefix(b"data: "))


async def test_a_watcher_receives_matching_events_without_properties(
    bus: Bus, events: LiveEvents
) -> None:
    stream = await open_stream(
        events, EventFilter(event="signed_up", user_id="ada", source="posthog")
    )
    await bus.announce()
    await bus.announce("other")
    await bus.announce(user_id="ben")
    await bus.announce(source="api")
    received = await batch(stream)
    assert [event["event"] for event in received["events"]] == ["signed_up"]
    assert received["skipped"] == 0
    assert "properties" not in received["events"][0]


async def test_excess_events_are_counted_and_long_texts_are_clipped(
    bus: Bus, events: LiveEvents
) -> None:
    stream = await open_stream(events)
    await bus.announce("x" * 1_000_000, times=MAX_EVENTS + 7)
    received = await batch(stream)
    assert (len(received["events"]), received["skipped"]) == (MAX_EVENTS, 7)
    assert received["events"][0]["event"] == "x" * live.MAX_CHARACTERS + "…"
    await bus.announce()
    assert (await batch(stream))["skipped"] == 0


async def test_the_gateway_does_not_subscribe_while_no_page_watches(
    bus: Bus, events: LiveEvents
) -> None:
    assert bus.handlers == []
    first, second = await open_stream(events), await open_stream(events)
    assert len(bus.handlers) == 1
    await first.aclose()  # type: ignore[attr-defined]
    await bus.announce()
    assert (await batch(second))["events"]
    await second.aclose()  # type: ignore[attr-defined]
    await eventually(lambda: bus.handlers == [])


async def test_a_cancelled_request_leaves_no_watcher(bus: Bus, events: LiveEvents) -> None:
    async def watch() -> None:
        async for _ in await events.watch(EventFilter()):
            pass

    request = asyncio.create_task(watch())
    await eventually(lambda: bus.handlers)
    request.cancel()
    await asyncio.wait({request})
    await eventually(lambda: bus.handlers == [])


async def test_an_unread_stream_unsubscribes_when_it_is_garbage_collected(
    bus: Bus, events: LiveEvents
) -> None:
    await events.watch(EventFilter())
    await eventually(lambda: bus.handlers == [])


async def test_watchers_beyond_the_limit_are_refused_until_another_leaves(
    bus: Bus, events: LiveEvents
) -> None:
    streams = [await open_stream(events) for _ in range(MAX_WATCHERS)]
    with pytest.raises(live.TooManyWatchers):
        await events.watch(EventFilter())
    await streams.pop().aclose()  # type: ignore[attr-defined]
    streams.append(await open_stream(events))


async def test_a_stream_that_fails_without_nats_does_not_count_as_a_watcher(
    bus: Bus, events: LiveEvents
) -> None:
    bus.fails = True
    for _ in range(MAX_WATCHERS + 1):
        with pytest.raises(Unavailable):
            await events.watch(EventFilter())
    bus.fails = False
    await open_stream(events)


async def test_undecodable_announcements_are_skipped(bus: Bus, events: LiveEvents) -> None:
    stream = await open_stream(events)
    await bus.publish(b"nonsense")
    await bus.announce()
    assert len((await batch(stream))["events"]) == 1


async def test_streams_end_when_the_gateway_stops(bus: Bus, events: LiveEvents) -> None:
    stream = await open_stream(events)
    closing = asyncio.create_task(events.close())
    assert [piece async for piece in stream] == []
    # The server may stop only after it has sent the end.
    assert not closing.done()
    await events.sent()
    await closing
    with pytest.raises(Unavailable):
        await events.watch(EventFilter())


async def test_a_stream_without_events_sends_pulses_and_an_old_one_ends(
    bus: Bus, events: LiveEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PULSE_SECONDS", 0.0)
    stream = await open_stream(events)
    assert await anext(stream) == b"event: pulse\ndata: nothing new\n\n"
    monkeypatch.setattr(live, "STREAM_SECONDS", 0.0)
    assert [piece async for piece in await open_stream(events)] == []


async def test_a_stream_reports_that_nats_is_disconnected_and_connected_again(
    bus: Bus, events: LiveEvents
) -> None:
    stream = await open_stream(events)
    bus.connected = False
    assert await anext(stream) == b"event: bus\ndata: down\n\n"
    bus.connected = True
    assert await anext(stream) == b"event: bus\ndata: up\n\n"
    await bus.announce()
    assert len((await batch(stream))["events"]) == 1


async def test_a_watching_page_reserves_no_memory_for_bodies(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    receives: list[None] = []

    async def receive() -> dict[str, Any]:
        receives.append(None)
        if len(receives) > 1:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: dict[str, Any]) -> None:
        pass

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/console/live",
        "raw_path": b"/console/live",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"x"), (b"authorization", bearer()["Authorization"].encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    # A gateway of its own: the metric reports on the gateway that was built last.
    async with fake_gateway() as gateway:
        monkeypatch.setattr(gateway.bus, "listen", bus.listen)
        watching = asyncio.create_task(gateway.app(scope, receive, send))
        # The first receive returns the body; the second waits until the page disconnects.
        await eventually(lambda: len(receives) > 1)
        ((sample,),) = (metric.samples for metric in IN_MEMORY.collect())
        assert sample.value == 0
        watching.cancel()
        await asyncio.wait({watching})


async def test_watching_requires_a_key_that_may_read(gateway: FakeGateway) -> None:
    assert (await gateway.http.get("/console/live")).status_code == 401
    response = await gateway.http.get("/console/live", headers=bearer(INGEST_KEY))
    assert response.status_code == 403
    gateway.bus.is_up = False
    response = await gateway.http.get("/console/live", headers=bearer())
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")


async def test_a_page_beyond_the_limit_of_watchers_is_asked_to_wait(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_WATCHERS", 0)
    async with fake_gateway() as gateway:
        response = await gateway.http.get("/console/live", headers=bearer())
    assert response.status_code == 429
    assert response.headers["retry-after"]
    assert bus.handlers == []
