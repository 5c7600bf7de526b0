"""Captures, person writes and aliases of services, as PostHog receives them.

Tests that need no server are in `tests/unit/analytics/test_sender.py`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

from cli.backup import stream_snapshot as backup
from hogsend.contract import subjects
from hogsend.contract.headers import MESSAGE_ID
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from services.analytics.delivery import batch_delivery
from tests.capture_recorder import Reply, capture_recorder
from tests.integration.analytics.sending import KEY, replica, sending, until_consumed
from tests.integration.harness import client, connected
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")


async def test_case_101_person_writes_and_captures_are_sent_in_batches_in_order(
    servers: Servers, database_url: str
) -> None:
    async with (
        capture_recorder() as posthog,
        sending(servers, database_url, posthog.url) as sent,
    ):
        member = sent.member
        await member.persons.set("u_1", {"plan": "pro"}, once={"first": 1}, unset=["old"])
        await member.persons.set("u_1")
        await member.capture("upgraded", "u_1", {"to": "pro"}, groups={"company": "c_1"})
        await member.persons.alias("u_1", "anon")
        await member.persons.alias("u_1", "u_1")
        await eventually(lambda: len(posthog.events) == 3)
        assert posthog.names() == ["$set", "upgraded", "$create_alias"]
        written = posthog.events[0]
        assert written["distinct_id"] == "u_1"
        assert written["properties"]["$set"] == {"plan": "pro"}
        assert written["properties"]["$set_once"] == {"first": 1}
        assert written["properties"]["$unset"] == ["old"]
        assert posthog.events[1]["properties"]["$groups"] == {"company": "c_1"}
        assert set(posthog.keys) == {KEY}
        path, headers = posthog.requests[0]
        assert path == "/batch/"
        assert headers["content-encoding"] == "gzip"
        assert "authorization" not in headers
        await until_consumed(sent, StreamName.PERSONS, "persons")
        assert await sent.messages_in(StreamName.PERSONS) == 0


async def test_an_unreadable_message_is_dead_lettered_and_later_messages_are_sent(
    servers: Servers, database_url: str
) -> None:
    async with (
        capture_recorder() as posthog,
        sending(servers, database_url, posthog.url) as sent,
    ):
        await sent.member.connection.publish(subjects.persons("capture"), b"{", {})
        await sent.operator.publish(subjects.persons("nonsense"), b"{}", {})
        await sent.member.capture("upgraded", "u_1")
        await eventually(lambda: posthog.names() == ["upgraded"])
        await until_consumed(sent, StreamName.PERSONS, "persons")
        letters = await sent.letters()
        assert [letter.reason for letter in letters] == ["malformed", "unknown_verb"]
        assert letters[0].body == b"{"


async def test_case_142_a_batch_is_retried_after_temporary_errors_until_it_is_accepted(
    servers: Servers, database_url: str
) -> None:
    responses = [
        Reply(500),
        Reply(429),
        Reply(0),
        Reply(503),
        Reply(200, cut_off=True, stores=True),
    ]

    async with (
        capture_recorder() as posthog,
        sending(servers, database_url, posthog.url) as sent,
    ):
        posthog.respond = lambda _batch: responses.pop(0) if responses else None
        for number in range(5):
            await sent.member.capture(f"e_{number}", "u_1")
        await eventually(lambda: not responses)
        await until_consumed(sent, StreamName.PERSONS, "persons")
        uuids = Counter(event["uuid"] for event in posthog.events)
        assert len(uuids) == 5
        # The events of the truncated response were sent again with the same uuids, in order.
        order = list(dict.fromkeys(event["event"] for event in posthog.events))
        assert order == [f"e_{number}" for number in range(5)]
        assert await sent.letters() == []


async def test_messages_stay_in_jetstream_while_posthog_fails_and_are_nakd_when_analytics_stops(
    servers: Servers, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = {"outbound_webhook_base_delay_ms": 600_000}
    async with capture_recorder() as posthog:
        url, port = posthog.url, posthog.port
        async with sending(servers, database_url, url, settings=slow) as sent:
            posthog.respond = lambda _batch: Reply(503)
            for number in range(20):
                await sent.member.capture(f"e_{number}", f"u_{number}")
            await eventually(lambda: posthog.requests)
            assert await sent.messages_in(StreamName.PERSONS) == 20
    output = capsys.readouterr().out
    assert "messages nak'ed" in output
    # The connection was still open when the messages were nak'ed.
    assert "heartbeats or naks of messages in flight" not in output
    async with (
        capture_recorder(port) as again,
        sending(servers, database_url, url) as sent,
    ):
        await eventually(lambda: len({event["uuid"] for event in again.events}) == 20, 60)
        await until_consumed(sent, StreamName.PERSONS, "persons")


async def test_two_replicas_send_each_persons_events_once_and_in_order(
    servers: Servers, database_url: str
) -> None:
    async with (
        capture_recorder() as posthog,
        sending(servers, database_url, posthog.url) as sent,
        replica(
            servers,
            database_url,
            posthog={"posthog_api_key": KEY, "posthog_host": posthog.url},
            settings={},
        ),
    ):
        ids = [uuid4() for _ in range(200)]
        for number, id in enumerate(ids):
            await sent.member.capture(f"e_{number}", f"u_{number % 3}", id=id)
        await eventually(lambda: len(posthog.events) >= 200)
        assert Counter(event["uuid"] for event in posthog.events) == Counter(map(str, ids))
        for person in range(3):
            numbers = [int(event["event"][2:]) for event in posthog.of(f"u_{person}")]
            assert numbers == sorted(numbers)


async def test_a_capture_without_an_id_keeps_its_uuid_when_another_replica_sends_it_again(
    servers: Servers, database_url: str
) -> None:
    capture = subjects.persons("capture")
    async with capture_recorder() as posthog:

        def uuids() -> set[str]:
            return {event["uuid"] for event in posthog.events}

        # PostHog stores the events, but its response is lost.
        posthog.respond = lambda _batch: Reply(0, stores=True)
        endless = {"outbound_webhook_max_attempts": 100}
        async with sending(servers, database_url, posthog.url, settings=endless) as sent:
            for headers in ({}, {MESSAGE_ID: "order-42"}):
                body = b'{"event": "bought", "distinctId": "u_1"}'
                await sent.member.connection.publish(capture, body, headers)
            await eventually(lambda: len(uuids()) == 2)
        before, sent_before = uuids(), len(posthog.events)
        posthog.respond = lambda _batch: None
        async with sending(servers, database_url, posthog.url) as sent:
            await until_consumed(sent, StreamName.PERSONS, "persons")
        assert len(posthog.events) >= sent_before + 2
        assert uuids() == before


async def test_a_message_in_flight_is_sent_although_its_stream_was_deleted_and_recreated(
    servers: Servers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_delivery, "DELETED_CHECK_SECONDS", 0)
    async with (
        capture_recorder() as posthog,
        sending(servers, database_url, posthog.url) as sent,
        connected(servers, User.ANALYTICS) as analytics,
    ):
        responses = iter([Reply(503)])
        posthog.respond = lambda _batch: next(responses, None)
        posthog.gate.clear()
        await sent.member.persons.set("u_1", {"plan": "pro"})
        await eventually(lambda: posthog.arrived == 1)
        await sent.operator.js.delete_stream(StreamName.PERSONS)
        await streams.reconcile(analytics.js, User.ANALYTICS)
        # In the new stream, the message at the same sequence is deleted.
        await sent.member.persons.set("u_2", {"plan": "pro"})
        state = (await sent.operator.js.stream_info(StreamName.PERSONS)).state
        await sent.operator.js.delete_msg(StreamName.PERSONS, state.last_seq)
        posthog.gate.set()
        await eventually(lambda: "u_1" in {event["distinct_id"] for event in posthog.events})


async def test_a_message_that_is_erased_after_its_stream_was_restored_is_not_sent(
    servers: Servers, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A restored stream was created later than its messages."""
    monkeypatch.setattr(batch_delivery, "DELETED_CHECK_SECONDS", 0)
    async with connected(servers, User.ANALYTICS) as analytics:
        await streams.reconcile(analytics.js, User.ANALYTICS)
    async with (
        client(servers, User.APP) as member,
        connected(servers, User.OPERATOR) as operator,
    ):
        await member.capture("upgraded", "u_1")
        await backup.save(operator.client, StreamName.PERSONS, tmp_path, lambda *_: None)
        await backup.delete(operator.client, StreamName.PERSONS)
        source = tmp_path / StreamName.PERSONS
        await backup.restore(operator.client, source, lambda *_: None)
    responses = iter([Reply(503)])
    async with capture_recorder() as posthog:
        posthog.respond = lambda _batch: next(responses, None)
        posthog.gate.clear()
        async with sending(servers, database_url, posthog.url) as sent:
            await eventually(lambda: posthog.arrived == 1)
            # An erasure deletes the message in this way.
            await sent.operator.js.delete_msg(StreamName.PERSONS, 1)
            await sent.member.capture("upgraded", "u_2")
            posthog.gate.set()
            await until_consumed(sent, StreamName.PERSONS, "persons")
            assert [event["distinct_id"] for event in posthog.events] == ["u_2"]
            assert await sent.letters() == []
