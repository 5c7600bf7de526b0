"""`POST /v1/admin/events/replay`: the gateway passes on to ingest exactly what was requested."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hogsend.contract.errors import NotFound
from hogsend.contract.replays import INGEST_REPLAY_EVENTS, EventsReplayed, ReplayEvents
from tests.unit.gateway.fakes import READ_KEY, FakeGateway, bearer

URL = "/v1/admin/events/replay"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
REPLAY = {"to": "mailer", "since": "2026-01-01T00:00:00Z"}


async def test_the_requested_range_is_passed_on_to_ingest(gateway: FakeGateway) -> None:
    done = EventsReplayed(id="r1", count=7, until=SINCE, after="there")
    gateway.bus.reply_with(INGEST_REPLAY_EVENTS, done)
    body = REPLAY | {"until": "2026-01-02T00:00:00+01:00", "after": "here", "dryRun": True}
    response = await gateway.http.post(URL, json=body, headers=bearer())
    assert response.status_code == 200
    assert response.json() | {"count": 7, "after": "there"} == response.json()
    (request,) = [sent for sent in gateway.bus.sent if "replay" in sent.subject]
    assert request.message == ReplayEvents(
        durable="mailer",
        since=SINCE,
        until=datetime(2026, 1, 1, 23, tzinfo=UTC),
        after="here",
        dry_run=True,
    )


@pytest.mark.parametrize(
    "wrong",
    [{"to": ""}, {"since": "yesterday"}, {"until": 1}, {"unitl": "2026-01-02T00:00:00Z"}],
)
async def test_an_invalid_or_unknown_field_is_400_and_replays_nothing(
    gateway: FakeGateway, wrong: dict[str, Any]
) -> None:
    response = await gateway.http.post(URL, json=REPLAY | wrong, headers=bearer())
    assert response.status_code == 400
    assert not [sent for sent in gateway.bus.sent if "replay" in sent.subject]


async def test_an_unknown_durable_is_404_and_a_read_key_is_403(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(INGEST_REPLAY_EVENTS, NotFound("there is no durable 'mailer' on EVENTS"))
    response = await gateway.http.post(URL, json=REPLAY, headers=bearer())
    assert response.status_code == 404
    refused = await gateway.http.post(URL, json=REPLAY, headers=bearer(READ_KEY))
    assert refused.status_code == 403
