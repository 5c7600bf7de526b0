"""What became of one event: found in the stream, or why it is not."""

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


def wanted(id: str, **more: Any) -> TraceEvent:
    return TraceEvent(
        **{"source": "posthog", "id": id, "event": "signed_up", "user_id": "anna", **more}
    )


async def test_an_events_announcement_is_found_or_why_not(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def traced(id: str, **more: Any) -> EventTrace:
        return await driver.gateway.request(INGEST_EVENT_TRACE, wanted(id, **more))

    begun = datetime.now(UTC)
    async with driver.replica():
        for number in range(4):
            await driver.post(f"u-{number}", received_at=format_time(datetime.now(UTC)))
            await driver.drained()
        await driver.post("u-3", event="other", distinct_id="", received_at=format_time(begun))
        await driver.events(4)
        monkeypatch.setattr(trace, "BATCH", 2)
        way = await traced("u-3")
        assert way.queued_at is not None
        assert way.stored_at is not None
        # Servers of one machine have one clock; that of NATS is read to the microsecond.
        assert begun <= way.queued_at <= way.stored_at
        found = way.announcement
        assert (found.state, found.sequence) == ("announced", 4)
        assert found.at is not None
        assert way.stored_at <= found.at <= datetime.now(UTC)
        for other in ({"source": "api"}, {"event": "other"}, {"user_id": "ben"}):
            with pytest.raises(NotFound):
                await traced("u-3", **other)
        # So many of one name may come at a time that it is not looked for any further.
        monkeypatch.setattr(trace, "MAX_BATCHES", 1)
        assert (await traced("u-1")).announcement.state == "announced"
        assert (await traced("u-3")).announcement.state == "unknown"
        monkeypatch.setattr(trace, "MAX_BATCHES", 9)
        assert await driver.operator.js.delete_msg(StreamName.EVENTS, 4)
        # The first one was announced before the last was received, and is still there.
        assert (await traced("u-3")).announcement.state == "absent"
        await driver.operator.js.purge_stream(StreamName.EVENTS)
        gone = await traced("u-3")
        assert gone.announcement.state == "expired"
        assert gone.event.id == "u-3"
