"""Reading persons (contract 12.6): cached, shared, with a valid token, never failing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from hogsend.contract.credentials import CREDENTIALS_TOKEN, ProjectReply
from hogsend.contract.json_text import MAX_DEPTH
from hogsend.posthog.errors import PostHogError
from services.analytics.persons.memory import CACHE_BYTES
from services.analytics.persons.reader import (
    CACHE_SECONDS,
    DEADLINE_SECONDS,
    HANG_PAUSE_SECONDS,
    MAX_CONCURRENT_READS,
)
from tests.unit.analytics.fakes import HOST
from tests.unit.analytics.person_reading import LARGE, PERSONAL, PLAN, failures, reading
from tests.virtual_time import now, on_virtual_time, settle


@on_virtual_time
async def test_case_92_without_any_credential_no_request_is_sent() -> None:
    world = reading()
    world.credentials.token = None
    assert await world.persons.properties("u_42") == {}
    assert world.posthog.requests == []


@on_virtual_time
async def test_a_placeholder_id_is_not_read() -> None:
    world = reading()
    world.posthog.persons["undefined"] = {"email": "somebody@example.com"}
    assert await world.persons.properties("undefined") == {}
    assert await world.persons.properties_of_all(["undefined"], seconds=1.0) == [{}]
    assert world.posthog.requests == []


@on_virtual_time
async def test_missing_read_access_is_logged_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = reading()
    world.credentials.token = None
    token_reply = world.link.replies.pop(CREDENTIALS_TOKEN.subject)
    logging = asyncio.create_task(world.persons.log_when_off())
    await asyncio.sleep(10)
    assert not logging.done()
    world.link.reply_with(CREDENTIALS_TOKEN, token_reply)
    await logging
    output = "".join(capsys.readouterr())
    assert output.count("person reads are off") == 1
    assert "hogsend connect posthog" in output
    assert "POSTHOG_PERSONAL_API_KEY" in output


@on_virtual_time
async def test_case_93_a_personal_key_discovers_the_project_and_reads() -> None:
    world = reading(posthog_host="https://eu.i.posthog.com")
    world.posthog.persons["u_42"] = PLAN
    assert await world.persons.properties("u_42") == PLAN
    assert world.posthog.requests == [
        (HOST, "/api/projects/@current/", PERSONAL),
        (HOST, "/api/projects/4242/persons/?distinct_id=u_42", PERSONAL),
    ]


@on_virtual_time
async def test_persons_are_read_in_the_only_project_of_the_grant() -> None:
    world = reading(posthog_private_host=HOST)
    world.credentials.scoped_teams = [4242]
    await world.persons.properties("u_42")
    assert world.posthog.paths == ["/api/projects/4242/persons/?distinct_id=u_42"]


@on_virtual_time
@pytest.mark.parametrize("status", [403, 404])
async def test_a_refusal_names_a_configured_project_outside_the_grant(status: int) -> None:
    world = reading(posthog_private_host=HOST, posthog_project_id="99")
    world.credentials.scoped_teams = [4242]
    world.posthog.status = status
    with capture_logs() as logs:
        assert await world.persons.properties("u_42") == {}
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert "POSTHOG_PROJECT_ID is 99, but the grant covers project 4242." in warning["reason"]


@on_virtual_time
async def test_a_key_without_access_to_the_project_is_not_reported_as_a_missing_scope() -> None:
    """Discovery returns the project that the key's owner opened last in PostHog."""
    world = reading(posthog_private_host=HOST)
    detail = "API key does not have access to the requested project: ID 7."
    world.posthog.refuses_project = detail
    with capture_logs() as logs:
        assert await world.persons.properties("u_42") == {}
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert "Set POSTHOG_PROJECT_ID" in warning["reason"]
    assert detail in warning["reason"]


@on_virtual_time
async def test_case_94_a_project_id_skips_discovery_and_a_refusal_is_not_cached() -> None:
    before = failures("http_403")
    world = reading(posthog_private_host=HOST, posthog_project_id="7")
    world.posthog.status = 403
    assert await world.persons.properties("u 4&2") == {}
    assert world.posthog.paths == ["/api/projects/7/persons/?distinct_id=u+4%262"]
    assert failures("http_403") == before + 1
    world.posthog.status = 200
    world.posthog.persons["u 4&2"] = PLAN
    assert await world.persons.properties("u 4&2") == PLAN


@on_virtual_time
async def test_case_96_an_oauth_grant_determines_its_posthog() -> None:
    world = reading(posthog_project_id="7")
    world.credentials.token, world.credentials.source = "pha_1", "oauth"
    world.credentials.project = ProjectReply(1, "absent", grant_origin="https://ph.example.com")
    await world.persons.properties("u_42")
    assert world.posthog.requests[0][0] == "https://ph.example.com"


@on_virtual_time
async def test_case_97_a_refreshed_token_needs_no_second_discovery() -> None:
    world = reading()
    world.credentials.source = "oauth"
    await world.persons.properties("u_1")
    world.watcher.changed(world.credentials.change("pha_2", "refreshed"))
    await world.persons.properties("u_1")
    assert [bearer for _, _, bearer in world.posthog.requests] == [PERSONAL, PERSONAL, "pha_2"]
    assert world.posthog.discoveries == 1


@on_virtual_time
async def test_another_connection_may_be_another_project() -> None:
    world = reading()
    await world.persons.properties("u_1")
    world.posthog.project_id = 77
    world.watcher.changed(world.credentials.change("pha_2", "stored"))
    await world.persons.properties("u_1")
    assert world.posthog.paths[-1].startswith("/api/projects/77/")


@on_virtual_time
async def test_after_a_reconnection_persons_and_the_project_are_read_again() -> None:
    world = reading()
    world.posthog.persons["u_1"] = PLAN
    await world.persons.properties("u_1")
    # Another project was connected while NATS could not be reached; its event is lost.
    world.credentials.change("pha_2", "stored")
    world.posthog.project_id = 77
    world.posthog.persons["u_1"] = {"plan": "free"}
    await world.watcher.reconnected()
    assert await world.persons.properties("u_1") == {"plan": "free"}
    assert world.posthog.paths[-1].startswith("/api/projects/77/")


@on_virtual_time
async def test_the_next_revalidation_compensates_for_a_lost_event() -> None:
    world = reading()
    world.posthog.persons["u_1"] = PLAN
    revalidating = asyncio.create_task(world.watcher.revalidate())
    await world.persons.properties("u_1")
    world.credentials.change("pha_2", "stored")
    world.posthog.project_id = 77
    world.posthog.persons["u_1"] = {"plan": "free"}
    await asyncio.sleep(31)
    assert await world.persons.properties("u_1") == {"plan": "free"}
    assert world.posthog.paths[-1].startswith("/api/projects/77/")
    revalidating.cancel()


@on_virtual_time
async def test_a_refresh_after_a_lost_event_does_not_keep_the_old_project() -> None:
    world = reading()
    await world.persons.properties("u_1")
    world.credentials.change("pha_2", "stored")
    world.posthog.project_id = 77
    world.watcher.changed(world.credentials.change("pha_3", "refreshed"))
    await world.persons.properties("u_1")
    assert world.posthog.paths[-1].startswith("/api/projects/77/")


@on_virtual_time
async def test_cases_98_and_99_a_person_is_cached_for_five_minutes() -> None:
    world = reading(posthog_private_host=HOST, posthog_project_id="7")
    world.posthog.persons["u_42"] = PLAN
    for _ in range(3):
        assert await world.persons.properties("u_42") == PLAN
        # A response without a person is cached, too.
        assert await world.persons.properties("nobody") == {}
    assert len(world.posthog.requests) == 2
    await asyncio.sleep(CACHE_SECONDS + 1)
    await world.persons.properties("u_42")
    assert len(world.posthog.requests) == 3


@on_virtual_time
async def test_readers_of_one_person_share_one_call() -> None:
    world = reading()
    world.posthog.persons["u_42"] = PLAN
    world.posthog.gate.clear()
    reads = [asyncio.create_task(world.persons.properties("u_42")) for _ in range(20)]
    await settle()
    world.posthog.gate.set()
    assert await asyncio.gather(*reads) == [PLAN] * 20
    assert len(world.posthog.requests) == 2


@on_virtual_time
async def test_a_cancelled_caller_does_not_cancel_the_read_of_others() -> None:
    world = reading()
    world.posthog.persons["u_42"] = PLAN
    world.posthog.gate.clear()
    impatient, patient = (asyncio.create_task(world.persons.properties("u_42")) for _ in range(2))
    await settle()
    impatient.cancel()
    await settle()
    world.posthog.gate.set()
    assert await patient == PLAN


@on_virtual_time
async def test_a_read_during_a_credential_change_is_returned_and_not_cached() -> None:
    world = reading(posthog_private_host=HOST, posthog_project_id="7")
    world.posthog.persons["u_42"] = PLAN
    world.posthog.gate.clear()
    read = asyncio.create_task(world.persons.properties("u_42"))
    await settle()
    # After a refresh, the version of the cached bearer is the same as that of the read.
    world.watcher.changed(None)
    world.posthog.gate.set()
    assert await read == PLAN
    await world.persons.properties("u_42")
    assert len(world.posthog.requests) == 2


@on_virtual_time
async def test_a_token_that_posthog_refuses_is_replaced_once() -> None:
    world = reading()
    world.posthog.accepts = {"pha_2"}
    world.posthog.persons["u_42"] = PLAN
    world.credentials.instead = ["pha_2"]
    assert await world.persons.properties("u_42") == PLAN
    assert [bearer for _, _, bearer in world.posthog.requests] == [PERSONAL, "pha_2", "pha_2"]
    # Cached with the version of the token that it was read with.
    assert await world.persons.properties("u_42") == PLAN
    assert len(world.posthog.requests) == 3


@on_virtual_time
async def test_a_second_refusal_is_empty_and_not_retried() -> None:
    world = reading()
    world.posthog.accepts = set()
    world.credentials.instead = ["pha_2", "pha_3"]
    assert await world.persons.properties("u_42") == {}
    assert [bearer for _, _, bearer in world.posthog.requests] == [PERSONAL, "pha_2"]


@on_virtual_time
async def test_a_refused_token_without_another_is_empty_after_one_request() -> None:
    world = reading()
    world.posthog.accepts = set()
    assert await world.persons.properties("u_42") == {}
    assert world.posthog.paths == ["/api/projects/@current/"]


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"null"])
@on_virtual_time
async def test_an_unreadable_response_is_empty_and_not_cached(body: bytes) -> None:
    world = reading()
    world.posthog.body = body
    assert await world.persons.properties("u_42") == {}
    world.posthog.body = None
    world.posthog.persons["u_42"] = PLAN
    assert await world.persons.properties("u_42") == PLAN


@on_virtual_time
async def test_a_person_too_large_for_a_message_is_empty() -> None:
    world = reading()
    world.posthog.persons["u_42"] = {"text": "x" * 1_000_000}
    assert await world.persons.properties("u_42") == {}


@on_virtual_time
async def test_a_person_nested_too_deeply_for_callers_is_empty() -> None:
    world = reading()
    value: list[Any] = []
    for _ in range(MAX_DEPTH):
        value = [value]
    world.posthog.persons["u_42"] = {"deep": value}
    assert await world.persons.properties("u_42") == {}


@on_virtual_time
async def test_without_a_project_id_a_read_is_empty_and_discovery_is_repeated() -> None:
    world = reading()
    world.posthog.project_id = None
    world.posthog.persons["u_42"] = PLAN
    assert await world.persons.properties("u_42") == {}
    world.posthog.project_id = 4242
    assert await world.persons.properties("u_42") == PLAN


@on_virtual_time
async def test_without_a_response_a_read_is_empty_after_the_deadline() -> None:
    world = reading()
    world.posthog.gate.clear()
    assert await world.persons.properties("u_42") == {}
    assert now() == DEADLINE_SECONDS


@on_virtual_time
async def test_concurrent_reads_do_not_wait_for_one_another_while_posthog_hangs() -> None:
    world = reading()
    world.posthog.gate.clear()
    slots = asyncio.Semaphore(10)

    async def read(number: int) -> None:
        async with slots:
            assert await world.persons.properties(f"u_{number}") == {}

    await asyncio.gather(*map(read, range(100)))
    assert now() == DEADLINE_SECONDS
    # Reads are tried again soon.
    world.posthog.gate.set()
    world.posthog.persons["u_1"] = PLAN
    await asyncio.sleep(HANG_PAUSE_SECONDS)
    assert await world.persons.properties("u_1") == PLAN


@on_virtual_time
async def test_one_slow_response_does_not_pause_other_reads() -> None:
    world = reading(posthog_private_host=HOST, posthog_project_id="7")
    world.posthog.persons |= {"u_2": PLAN, "u_3": PLAN}
    world.posthog.delay_seconds = DEADLINE_SECONDS + 1
    slow = asyncio.create_task(world.persons.properties("u_1"))
    await settle()
    world.posthog.delay_seconds = 1
    assert await world.persons.properties("u_2") == PLAN
    assert await slow == {}
    assert await world.persons.properties("u_3") == PLAN


@on_virtual_time
async def test_another_credential_ends_the_pause_after_a_hang() -> None:
    world = reading()
    world.posthog.gate.clear()
    assert await world.persons.properties("u_1") == {}
    world.posthog.gate.set()
    world.posthog.persons["u_1"] = PLAN
    assert await world.persons.properties("u_1") == {}
    world.watcher.changed(world.credentials.change("phx_other"))
    assert await world.persons.properties("u_1") == PLAN


@on_virtual_time
async def test_several_persons_are_read_a_few_at_a_time_and_within_one_deadline() -> None:
    world = reading(posthog_private_host=HOST, posthog_project_id="7")
    people = [f"u_{number}" for number in range(200)]
    world.posthog.persons = {person: {"is": person} for person in people}
    await world.persons.properties("u_199")
    started_at, catch_ups = now(), 0

    async def catch_up() -> None:
        nonlocal catch_ups
        catch_ups += 1

    world.writes.wait_before_reads(catch_up)
    world.posthog.delay_seconds = 3
    properties = await world.persons.properties_of_all(people, seconds=7)
    assert now() - started_at == 7
    # Two rounds of reads, and the cached persons.
    in_time = {*people[: 2 * MAX_CONCURRENT_READS], "u_199"}
    assert properties == [{"is": person} if person in in_time else {} for person in people]
    assert (world.posthog.max_concurrent, catch_ups) == (MAX_CONCURRENT_READS, 1)
    # Reads that were started are completed, and no further read is started.
    await asyncio.sleep(3)
    assert len(world.posthog.requests) == 1 + 3 * MAX_CONCURRENT_READS
    world.posthog.delay_seconds = 0
    assert await world.persons.properties_of_all(people, seconds=7) == [
        {"is": person} for person in people
    ]


@on_virtual_time
async def test_without_the_credentials_service_a_read_is_empty() -> None:
    world = reading()
    world.link.replies.clear()
    assert await world.persons.properties("u_42") == {}
    assert world.posthog.requests == []


@on_virtual_time
async def test_large_persons_are_cached_within_the_memory_limit() -> None:
    world = reading(posthog_private_host=HOST, posthog_project_id="7")
    people = [f"u_{number}" for number in range(CACHE_BYTES // LARGE + 1)]
    world.posthog.persons.update({id: {"text": "x" * LARGE} for id in people})
    for id in (*people, people[-1], people[0]):
        assert len((await world.persons.properties(id))["text"]) == LARGE
    assert len(world.posthog.requests) == len(people) + 1


@on_virtual_time
@pytest.mark.parametrize(("status", "header"), [(429, "30"), (503, "30"), (429, "junk")])
async def test_posthog_is_not_called_before_its_retry_after(status: int, header: str) -> None:
    world = reading()
    world.posthog.persons |= {"u_42": PLAN, "u_43": PLAN}
    assert await world.persons.properties("u_42") == PLAN
    world.posthog.status, world.posthog.retry_after = status, header
    before = len(world.posthog.requests)
    assert await world.persons.properties("u_43") == {}
    waits = header != "junk"
    for person in ("u_43", "u_44"):
        assert await world.persons.properties(person) == {}
    assert len(world.posthog.requests) == before + (1 if waits else 3)
    # Cached persons are still returned.
    assert await world.persons.properties("u_42") == PLAN
    world.posthog.status = 200
    await asyncio.sleep(30)
    assert await world.persons.properties("u_43") == PLAN


@on_virtual_time
async def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    world = reading()
    await world.persons.properties("u_42")
    world.posthog.persons["u_43"] = PLAN
    world.posthog.gate.clear()
    reads = [asyncio.create_task(world.persons.properties(id)) for id in ("u_1", "u_2")]
    await settle()
    # Both requests were sent before either was refused; the responses arrive in this order.
    world.posthog.refusals = [(429, "60"), (503, "1")]
    world.posthog.gate.set()
    assert await asyncio.gather(*reads) == [{}, {}]
    before = len(world.posthog.requests)
    await asyncio.sleep(59)
    assert await world.persons.properties("u_43") == {}
    assert len(world.posthog.requests) == before
    await asyncio.sleep(2)
    assert await world.persons.properties("u_43") == PLAN


@on_virtual_time
async def test_another_credential_ends_the_pause() -> None:
    world = reading()
    world.posthog.status, world.posthog.retry_after = 429, "3000"
    assert await world.persons.properties("u_43") == {}
    world.posthog.status, world.posthog.persons["u_43"] = 200, PLAN
    world.watcher.changed(world.credentials.change("phx_other"))
    assert await world.persons.properties("u_43") == PLAN


@on_virtual_time
async def test_trials_are_shared_and_their_outcome_is_cached_for_five_seconds() -> None:
    world = reading(posthog_private_host=HOST, posthog_project_id="4242")
    world.posthog.gate.clear()
    trials = [asyncio.create_task(world.trial.outcome()) for _ in range(5)]
    await settle()
    world.posthog.gate.set()
    assert {(await trial).token for trial in trials} == {PERSONAL}
    await world.trial.outcome()
    assert len(world.posthog.requests) == 1
    await asyncio.sleep(5)
    world.posthog.status = 500
    for _ in range(3):
        with pytest.raises(PostHogError):
            await world.trial.outcome()
    assert len(world.posthog.requests) == 2
    # A credential change is checked at once.
    world.posthog.status = 200
    world.watcher.changed(world.credentials.change("phx_other"))
    assert (await world.trial.outcome()).token == "phx_other"


@on_virtual_time
async def test_a_trial_whose_caller_was_cancelled_serves_the_next_caller() -> None:
    world = reading(posthog_private_host=HOST, posthog_project_id="4242")
    world.posthog.gate.clear()
    cancelled = asyncio.create_task(world.trial.outcome())
    await settle()
    cancelled.cancel()
    world.posthog.gate.set()
    assert (await world.trial.outcome()).token == PERSONAL
    assert len(world.posthog.requests) == 1
