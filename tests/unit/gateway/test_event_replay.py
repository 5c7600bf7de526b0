"""`POST /v1/admin/events/replay`: what a durable gets again is asked of ingest, as it is meant."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hogsend.contract.errors import NotFound
from hogsend.contract.replays import INGEST_REPLAY_EVENTS, EventsReplayed, ReplayEvents
from tests.unit.gateway.fakes import READ_KEY, FakeGateway, bearer

URL = "/v1/admin/events/replay"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
WANTED = {"to": "mailer", "since": "2026-01-01T00:00:00Z"}


async def test_a_part_is_asked_for(gateway: FakeGateway) -> None:
    done = EventsReplayed(id="r1", count=7, until=SINCE, after="there")
    gateway.bus.reply_with(INGEST_REPLAY_EVENTS, done)
    body = WANTED | {"until": "2026-01-02T00:00:00+01:00", "after": "here", "dryRun": True}
    response = await gateway.http.post(URL, json=body, headers=bearer())
    assert response.status_code == 200
    assert response.json() | {"count": 7, "after": "there"} == response.json()
    (question,) = [one for one in gateway.bus.sent if "replay" in one.subject]
    assert question.message == ReplayEvents(
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
async def test_what_may_mean_more_than_was_meant_is_400(
    gateway: FakeGateway, wrong: dict[str, Any]
) -> None:
    response = await gateway.http.post(URL, json=WANTED | wrong, headers=bearer())
    assert response.status_code == 400
    assert not [one for one in gateway.bus.sent if "replay" in one.subject]


async def test_a_durable_that_is_none_is_404_and_a_read_key_is_not_enough(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(INGEST_REPLAY_EVENTS, NotFound("there is no durable 'mailer' on EVENTS"))
    response = await gateway.http.post(URL, json=WANTED, headers=bearer())
    assert response.status_code == 404
    refused = await gateway.http.post(URL, json=WANTED, headers=bearer(READ_KEY))
    assert refused.status_code == 403
