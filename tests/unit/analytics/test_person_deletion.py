"""A person is deleted in PostHog, or the refusal has the reason and a remediation."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from hogsend.contract.errors import Unavailable
from hogsend.posthog.api import Persons, PostHogError, Transport
from hogsend.posthog.api.persons import MAX_IDS_PER_DELETION
from sandbox.app import app_of
from sandbox.instance import Instance
from sandbox.options import Options
from services.analytics.persons import deletion
from tests.unit.analytics.fakes import HOST
from tests.unit.analytics.person_reading import PLAN, PUBLISHED, reading, written
from tests.virtual_time import now, on_virtual_time, settle

DELETION = "/api/projects/4242/persons/bulk_delete/"


@on_virtual_time
async def test_a_person_is_deleted_by_every_id_and_no_longer_cached() -> None:
    world = reading()
    world.posthog.persons["u_42"] = PLAN
    assert await world.persons.properties("u_42") == PLAN
    assert (await deletion.delete(world.persons, ["u_42", "ada@example.com"])).refusal is None
    assert world.posthog.paths[-1] == DELETION
    del world.posthog.persons["u_42"]
    assert await world.persons.properties("u_42") == {}


@on_virtual_time
async def test_writes_to_a_deleted_person_are_no_longer_overlaid() -> None:
    world = reading()
    world.write(set={"plan": "pro"})
    assert await world.persons.properties("u_42") == PLAN
    assert (await deletion.delete(world.persons, ["u_42"])).refusal is None
    assert await world.persons.properties("u_42") == {}
    # The sending replica may read earlier captures from their stream only now.
    world.write(set={"plan": "team"})
    assert await world.persons.properties("u_42") == {}
    # Later writes are to a new person.
    later = datetime.now(UTC) + timedelta(seconds=1)
    world.writes.record(written(set={"seats": 1}), later)
    assert await world.persons.properties("u_42") == {"seats": 1}


@on_virtual_time
async def test_a_person_that_another_replica_deleted_is_dropped_from_the_cache() -> None:
    world = reading()
    world.posthog.persons |= {"u_42": PLAN, "u_43": PLAN}
    for id in ("u_42", "u_43"):
        assert await world.persons.properties(id) == PLAN
    world.write(set={"city": "Rome"})
    world.posthog.gate.clear()
    reading_meanwhile = asyncio.create_task(world.persons.properties("u_44"))
    await settle()
    world.persons.forget(["u_42", "u_44"], PUBLISHED)
    world.posthog.persons.clear()
    world.posthog.gate.set()
    await reading_meanwhile
    world.posthog.persons["u_44"] = PLAN
    assert await world.persons.properties("u_42") == {}
    assert await world.persons.properties("u_43") == PLAN, "of others nothing is forgotten"
    assert await world.persons.properties("u_44") == PLAN, "what was read meanwhile is not kept"


@on_virtual_time
async def test_an_erasure_announced_after_the_deletion_restores_no_write() -> None:
    world = reading()
    deleted = datetime.now(UTC)
    world.persons.forget(["u_42"], deleted)
    world.persons.forget(["u_42"], deleted - timedelta(minutes=1))
    world.writes.record(written(set={"plan": "pro"}), deleted - timedelta(seconds=1))
    assert await world.persons.properties("u_42") == {}


@on_virtual_time
async def test_a_read_after_a_deletion_does_not_share_an_earlier_request() -> None:
    world = reading()
    world.posthog.persons["u_42"] = PLAN
    world.posthog.gate.clear()
    before = asyncio.create_task(world.persons.properties("u_42"))
    await settle()
    world.persons.forget(["u_42"], PUBLISHED)
    after = asyncio.create_task(world.persons.properties("u_42"))
    await settle()
    world.posthog.gate.set()
    await asyncio.gather(before, after)
    assert len(world.posthog.requests) == 3, "the project, and the person twice"


@on_virtual_time
async def test_more_ids_than_posthog_accepts_are_sent_in_several_requests() -> None:
    world = reading()
    await deletion.delete(world.persons, [f"u_{n}" for n in range(MAX_IDS_PER_DELETION + 1)])
    assert world.posthog.paths.count(DELETION) == 2


@on_virtual_time
@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (401, "api-error", "connect posthog"),
        (403, "missing-scope", "person:write"),
        (404, "api-error", "upgrade"),
        (500, "api-error", "do the same again"),
    ],
)
async def test_a_refusal_has_a_remediation(status: int, code: str, remedy: str) -> None:
    world = reading()
    world.posthog.status = status
    refusal = (await deletion.delete(world.persons, ["u_42"])).refusal
    assert refusal is not None
    assert (refusal.reason, refusal.code) == ("posthog", code)
    assert remedy in (refusal.remediation or "")
    assert str(status) in (refusal.detail or "")


@pytest.mark.parametrize(
    ("errors", "detail"),
    [
        ([{"person_uuid": "0190-a"}], "could not delete 0190-a"),
        ([{"person_id": "0190-a", "step": "delete_clickhouse"}], "0190-a (delete_clickhouse)"),
        ([{"person_uuid": f"0190-{n}"} for n in range(5)], "0190-2 and 2 more"),
        (["failed"], "a person"),
    ],
)
async def test_a_202_with_persons_that_could_not_be_deleted_is_a_refusal(
    errors: list[Any], detail: str
) -> None:
    responses = [{"persons_found": 1, "deletion_errors": failed} for failed in (errors, [])]
    http = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(202, json=responses.pop(0)))
    )
    persons = Persons(Transport(http, HOST, "pha_a"), "4242")
    with pytest.raises(PostHogError) as refused:
        await persons.delete([f"u_{n}" for n in range(MAX_IDS_PER_DELETION + 1)])
    assert detail in refused.value.detail
    assert refused.value.status == 202
    assert responses == [], "the second request was not sent"


@on_virtual_time
async def test_a_person_that_could_not_be_deleted_is_not_reported_as_deleted() -> None:
    world = reading()
    world.posthog.body = b'{"deletion_errors": [{"person_uuid": "0190-a"}]}'
    refusal = (await deletion.delete(world.persons, ["u_42"])).refusal
    assert refusal is not None
    assert refusal.detail == "PostHog answered 202: it could not delete 0190-a"
    assert "do the same again" in (refusal.remediation or "")


async def test_a_response_without_a_body_of_an_earlier_posthog_is_a_success() -> None:
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(202)))
    await Persons(Transport(http, HOST, "pha_a"), "4242").delete(["u_42"])


@on_virtual_time
async def test_without_a_credential_no_request_is_sent() -> None:
    world = reading()
    world.credentials.token = None
    refusal = (await deletion.delete(world.persons, ["u_42"])).refusal
    assert refusal is not None
    assert (refusal.reason, refusal.code) == ("precondition", "no_posthog_credential")
    assert world.posthog.requests == []


@on_virtual_time
async def test_a_grant_that_is_not_refreshed_yet_is_not_reported_as_missing() -> None:
    world = reading()
    world.credentials.token, world.credentials.not_refreshed = None, "HTTP 503"
    with pytest.raises(Unavailable, match="not refreshed the access token yet: HTTP 503"):
        await deletion.delete(world.persons, ["u_42"])


@on_virtual_time
async def test_a_posthog_that_does_not_respond_is_unavailable() -> None:
    world = reading()
    world.posthog.gate.clear()
    with pytest.raises(Unavailable):
        await deletion.delete(world.persons, ["u_42"])


@on_virtual_time
async def test_a_deletion_that_takes_too_long_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(_ids: object) -> None:
        await asyncio.Event().wait()

    world = reading()
    monkeypatch.setattr(world.persons, "delete", hang)
    with pytest.raises(Unavailable, match="did not answer in time"):
        await deletion.delete(world.persons, ["u_42"])
    assert now() == deletion.DEADLINE_SECONDS


@on_virtual_time
async def test_a_person_that_was_deleted_with_a_substitute_key_is_reported_as_deleted() -> None:
    world = reading()
    # The personal API key is used until the grant is refreshed.
    world.credentials.not_refreshed = "HTTP 503"
    assert (await deletion.delete(world.persons, ["u_42"])).refusal is None
    assert world.posthog.paths[-1] == DELETION


async def test_posthog_deletes_persons_with_their_events_and_needs_the_scope() -> None:
    instance = Instance(Options(personal_key_scopes=("person:write",)))
    app: Any = app_of(instance)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        for user in ("ada", "ben"):
            body = {"api_key": instance.options.project_key, "event": "e", "distinct_id": user}
            await http.post(f"{HOST}/i/v0/e/", json=body)
        persons = Persons(Transport(http, HOST, instance.options.personal_key), "4242")
        await persons.delete(["ada", "nobody"])
        refused = Persons(Transport(http, HOST, "phx_wrong"), "4242")
        with pytest.raises(Exception, match=r"key|token"):
            await refused.delete(["ben"])
    assert [person.distinct_ids for person in instance.people.all()] == [["ben"]]
    assert [event.distinct_id for event in instance.pipeline.events.values()] == ["ben"]
