"""Person reads over the bus (contract 12.6), against a PostHog that records."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import REGISTRY

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.users import User
from services.analytics.persons import reader as persons_module
from tests.integration.analytics.reading import PERSONAL, reading
from tests.integration.harness import client
from tests.posthog_recorder import Recorded
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

PERSON = "/api/environments/4242/persons/?distinct_id=u_42"
DISCOVERY = "GET /api/projects/@current/"
PLAN = {"plan": "pro"}


def failures(kind: str) -> float:
    labels = {"where": "person_read", "kind": kind}
    return REGISTRY.get_sample_value("hogsend_failures_total", labels) or 0.0


async def test_case_92_without_any_credential_nothing_is_asked(
    servers: Servers, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with reading(servers, database_url) as world:
        assert await world.member.persons.get("u_42") == {}
        assert world.posthog.requests == []
        await world.analytics.parts.persons.say_once_when_off()
    said = capsys.readouterr().out
    assert said.count("person reads are off") == 1
    assert "hogsend connect posthog" in said
    assert "POSTHOG_PERSONAL_API_KEY" in said


async def test_case_93_a_personal_key_discovers_the_project_and_reads(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.persons["u_42"] = PLAN
        assert await world.member.persons.get("u_42") == PLAN
        assert world.posthog.lines() == [DISCOVERY, f"GET {PERSON}"]
        assert world.bearers("/api/") == [PERSONAL, PERSONAL]


async def test_case_94_a_project_id_skips_discovery_and_a_refusal_is_empty(
    servers: Servers, database_url: str
) -> None:
    before = failures("http_403")
    ours = {"posthog_project_id": "7"}
    async with reading(servers, database_url, personal_key=PERSONAL, posthog=ours) as world:
        world.posthog.refuse("GET", "/persons/", 403, {"detail": "no scope"})
        assert await world.member.persons.get("u 4&2") == {}
        assert world.posthog.lines() == ["GET /api/environments/7/persons/?distinct_id=u+4%262"]
        assert failures("http_403") == before + 1
        # A failure is not kept.
        world.posthog.answers.clear()
        world.posthog.persons["u 4&2"] = PLAN
        assert await world.member.persons.get("u 4&2") == PLAN


async def test_cases_95_and_100_oauth_comes_first_the_moment_it_is_stored(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.persons["u_42"] = PLAN
        await world.member.persons.get("u_42")
        await world.connect("pha_1")

        async def reads_with(token: str) -> bool:
            await world.member.persons.get("u_42")
            return world.bearers()[-1] == token

        await eventually(lambda: reads_with("pha_1"), 5)
        await world.disconnect()
        await eventually(lambda: reads_with(PERSONAL), 5)


async def test_case_96_oauth_alone_is_enough_and_says_which_posthog_it_belongs_to(
    servers: Servers, database_url: str
) -> None:
    nowhere = {"posthog_host": None}
    async with reading(servers, database_url, posthog=nowhere) as world:
        world.posthog.persons["u_42"] = PLAN
        await world.connect("pha_1")
        assert await world.member.persons.get("u_42") == PLAN
        assert set(world.bearers("/api/")) == {"pha_1"}


async def test_case_97_a_refreshed_token_needs_no_second_discovery(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url) as world:
        world.posthog.accepts = {"pha_1", "pha_2"}
        await world.connect("pha_1")
        await world.member.persons.get("u_1")
        # What credentials announces after a refresh, not after a new connection.
        await world.credentials.store.load("posthog")
        reader = world.analytics.parts.persons
        assert len(reader._projects) == 1
        await asyncio.gather(*(world.member.persons.get(f"u_{n}") for n in range(2, 6)))
        assert world.posthog.lines().count(DISCOVERY) == 1
        # Another connection may be another project.
        await world.connect("pha_2")
        await eventually(lambda: not reader._projects)
        world.posthog.project["id"] = 77
        await world.member.persons.get("u_1")
        assert world.posthog.lines()[-1].startswith("GET /api/environments/77/")


async def test_cases_98_and_99_a_person_is_kept_for_five_minutes(
    servers: Servers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = 0.0
    monkeypatch.setattr(persons_module.PersonReader.__init__, "__defaults__", (lambda: moment,))
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.persons["u_42"] = PLAN
        for _ in range(3):
            assert await world.member.persons.get("u_42") == PLAN
            # Nobody by that id is an answer as well.
            assert await world.member.persons.get("nobody") == {}
        assert len(world.bearers()) == 2
        moment = persons_module.KEPT_SECONDS + 1
        await world.member.persons.get("u_42")
        assert len(world.bearers()) == 3


async def test_readers_of_one_person_share_one_call(servers: Servers, database_url: str) -> None:
    gate = asyncio.Event()

    async def hold(_request: Recorded) -> None:
        await gate.wait()

    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.persons["u_42"] = PLAN
        world.posthog.before = hold
        asking = [asyncio.create_task(world.member.persons.get("u_42")) for _ in range(20)]
        await eventually(lambda: world.posthog.requests)
        gate.set()
        assert await asyncio.gather(*asking) == [PLAN] * 20
        assert world.posthog.lines() == [DISCOVERY, f"GET {PERSON}"]


async def test_a_token_that_posthog_refuses_is_asked_for_anew_once(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.accepts = {PERSONAL}
        world.posthog.persons["u_42"] = PLAN
        # Its refresh fails as well, so that the personal key is next.
        world.posthog.refuse("POST", "/oauth/token/", 400, {"error": "invalid_grant"})
        await world.connect("pha_dead")
        assert await world.member.persons.get("u_42") == PLAN
        assert world.bearers("/api/")[0] == "pha_dead"
        assert world.bearers("/api/")[-1] == PERSONAL


async def test_a_refused_token_without_another_is_empty_after_one_question(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.accepts = set()
        assert await world.member.persons.get("u_42") == {}
        assert world.posthog.lines() == [DISCOVERY]


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"null"])
async def test_an_answer_that_is_not_posthogs_is_empty_and_not_kept(
    servers: Servers, database_url: str, body: bytes
) -> None:
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.refuse("GET", "/persons/", 200, body)
        assert await world.member.persons.get("u_42") == {}
        world.posthog.answers.clear()
        world.posthog.persons["u_42"] = PLAN
        assert await world.member.persons.get("u_42") == PLAN


async def test_a_posthog_that_says_nothing_is_empty_after_the_deadline(
    servers: Servers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persons_module, "DEADLINE_SECONDS", 0.2)
    gate = asyncio.Event()

    async def hold(_request: Recorded) -> None:
        await gate.wait()

    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.before = hold
        try:
            assert await world.member.persons.get("u_42") == {}
        finally:
            gate.set()


async def test_without_analytics_a_read_is_empty_and_does_not_raise(servers: Servers) -> None:
    async with client(servers, User.APP) as member:
        assert await member.persons.get("u_42") == {}
        assert await member.flags.all("u_42") == {}


@pytest.mark.parametrize("distinct_id", ["", " ", "x" * 201])
async def test_what_cannot_be_a_distinct_id_is_a_typed_error(
    servers: Servers, database_url: str, distinct_id: Any
) -> None:
    async with reading(servers, database_url) as world:
        with pytest.raises(InvalidRequest):
            await world.member.persons.get(distinct_id)
