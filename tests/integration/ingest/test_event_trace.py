"""The trace of one event: its times, and whether its published message is still in the stream."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hogsend.contract.errors import NotFound
from hogsend.contract.events import INGEST_EVENT_TRACE, EventTrace, TraceEvent
from hogsend.contract.headers import format_time
from hogsend.contract.streams import StreamName
from services.ingest.events import trace
from tests.integration.ingest.driver import Driver


def trace_request(id: str, **more: Any) -> TraceEvent:
    return TraceEvent(
        **{"source": "posthog", "id": id, "event": "signed_up", "user_id": "anna", **more}
    )


async def test_a_trace_reports_whether_the_published_message_is_still_in_the_stream(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def traced(id: str, **more: Any) -> EventTrace:
        return await driver.gateway.request(INGEST_EVENT_TRACE, trace_request(id, **more))

    started_at = datetime.now(UTC)
    async with driver.replica():
        for number in range(4):
            await driver.post(f"u-{number}", received_at=format_time(datetime.now(UTC)))
            await driver.drained()
        await driver.post("u-3", event="other", distinct_id="", received_at=format_time(started_at))
        await driver.events(4)
        monkeypatch.setattr(trace, "BATCH", 2)
        event_trace = await traced("u-3")
        assert event_trace.queued_at is not None
        assert event_trace.stored_at is not None
        # Both servers run on one machine and share its clock; NATS' times are cut to microseconds.
        assert started_at <= event_trace.queued_at <= event_trace.stored_at
        announcement = event_trace.announcement
        assert (announcement.state, announcement.sequence) == ("announced", 4)
        assert announcement.at is not None
        assert event_trace.stored_at <= announcement.at <= datetime.now(UTC)
        for other in ({"source": "api"}, {"event": "other"}, {"user_id": "ben"}):
            with pytest.raises(NotFound):
                await traced("u-3", **other)
        # The search stops after `MAX_BATCHES` batches of events with the same name.
        monkeypatch.setattr(trace, "MAX_BATCHES", 1)
        assert (await traced("u-1")).announcement.state == "announced"
        assert (await traced("u-3")).announcement.state == "unknown"
        monkeypatch.setattr(trace, "MAX_BATCHES", 9)
        assert await driver.operator.js.delete_msg(StreamName.EVENTS, 4)
        # The first event was published before this one was received, and is still in the stream.
        assert (await traced("u-3")).announcement.state == "absent"
        await driver.operator.js.purge_stream(StreamName.EVENTS)
        purged = await traced("u-3")
        assert purged.announcement.state == "expired"
        assert purged.event.id == "u-3"
