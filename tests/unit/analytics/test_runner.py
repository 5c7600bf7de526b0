"""Running senders: one for each source, and one for each destination while it exists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from hogsend.contract.credentials import ProjectReply
from hogsend.contract.streams import StreamName
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings.shared import PostHogSettings
from hogsend.service.tasks import cancel_all
from services.analytics.delivery.runner import DeliveryRunner
from services.analytics.destinations.durable import destination_durable
from services.analytics.destinations.model import Destination
from services.analytics.project_key import ProjectKey
from services.analytics.settings import AnalyticsSettings
from services.analytics.stored_project import StoredProject
from tests.unit.analytics.delivery_fakes import (
    FakeCapture,
    FakeCaptureSubscription,
    FakeMessage,
    FakeStreams,
    write_recorder,
)
from tests.unit.analytics.fake_destinations import FakeStore, destination
from tests.unit.analytics.fakes import FakeCredentials, FakeLink
from tests.virtual_time import on_virtual_time, settle

OPENED = b'{"data": {"userId": "u_1"}}'


class Replica:
    """A replica that leads."""

    def __init__(self, *stored: Destination, **settings: Any) -> None:
        self.streams, self.capture, self.store = FakeStreams(), FakeCapture(), FakeStore(*stored)
        link = FakeLink()
        FakeCredentials(link, project=ProjectReply(1, "present", project_api_key="phc_1"))
        key = ProjectKey(PostHogSettings(), StoredProject(link, CredentialWatcher("posthog")))
        self.recorder = write_recorder(key)
        self.delivery = DeliveryRunner(
            streams=self.streams,
            capture=self.capture,
            project_key=key,
            store=self.store,
            recorder=self.recorder,
            settings=AnalyticsSettings(**settings),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.delivery.run())
        await asyncio.sleep(0.5)
        try:
            yield
        finally:
            await cancel_all(task)

    def running_consumers(self) -> set[str]:
        """Durables whose consumers run."""
        return {name for name, consumer in self.streams.consumers.items() if consumer.runs}

    async def deliver(self, message: FakeMessage) -> None:
        await self.delivery.enqueue([message])
        await settle()


@on_virtual_time
async def test_nothing_runs_before_the_streams_are_ready() -> None:
    replica = Replica()
    replica.streams.ready = False
    async with replica.running():
        assert replica.running_consumers() == set()
        replica.streams.ready = True
        await asyncio.sleep(1)
        assert replica.running_consumers() == {"persons", "buckets"}
    assert replica.running_consumers() == set()


@on_virtual_time
async def test_the_mirror_runs_when_it_is_switched_on() -> None:
    replica = Replica(analytics_event_mirror=True)
    async with replica.running():
        assert replica.running_consumers() == {"persons", "buckets", "mirror"}


@on_virtual_time
async def test_the_consumer_of_the_mirror_is_deleted_when_it_is_switched_off() -> None:
    replica = Replica()
    replica.streams.existing.add((StreamName.EVENTS, "mirror"))
    async with replica.running():
        assert (StreamName.EVENTS, "mirror") not in replica.streams.existing


@on_virtual_time
async def test_each_destination_has_a_sender_while_it_exists() -> None:
    first, second = destination(), destination()
    replica = Replica(first)
    async with replica.running():
        assert destination_durable(first.id) in replica.running_consumers()
        del replica.store.rows[first.id]
        replica.store.rows[second.id] = second
        await asyncio.sleep(2)
        assert replica.running_consumers() == {
            "persons",
            "buckets",
            destination_durable(second.id),
        }
        assert (
            StreamName.ENGAGEMENT,
            destination_durable(first.id),
        ) not in replica.streams.existing


@on_virtual_time
async def test_a_changed_destination_is_used_at_once() -> None:
    stored = destination()
    durable = destination_durable(stored.id)
    replica = Replica(stored)
    subject = "hogsend.engagement.email.opened"
    async with replica.running():
        replica.store.rows[stored.id] = destination(
            id=stored.id, given={"eventNames": {"email.opened": "opened"}}
        )
        await asyncio.sleep(2)
        await replica.deliver(FakeMessage(1, subject=subject, body=OPENED, durable=durable))
        assert replica.capture.of("u_1") == ["opened"]


@on_virtual_time
async def test_only_consumers_of_deleted_destinations_are_deleted() -> None:
    kept = destination()
    replica = Replica(kept)
    orphans = {"destination-gone", destination_durable(destination().id)}
    others = {destination_durable(kept.id), "ingest", "buckets"}
    replica.streams.existing |= {(StreamName.ENGAGEMENT, name) for name in orphans | others}
    async with replica.running():
        assert set(await replica.streams.durables(StreamName.ENGAGEMENT)) == others


@on_virtual_time
async def test_a_destination_created_during_the_cleanup_keeps_its_consumer() -> None:
    replica, created = Replica(), destination()
    consumer = StreamName.ENGAGEMENT, destination_durable(created.id)
    deleted: list[tuple[StreamName, str]] = []

    class Streams(FakeStreams):
        async def durables(self, stream: StreamName) -> Collection[str]:
            # Another replica handles the request: it stores the row, then creates the consumer.
            replica.store.rows[created.id] = created
            self.existing.add(consumer)
            return await super().durables(stream)

        async def delete_consumer(self, stream: StreamName, durable: str) -> None:
            deleted.append((stream, durable))

    replica.delivery._streams = Streams()
    async with replica.running():
        assert consumer not in deleted


@on_virtual_time
async def test_senders_continue_while_destinations_cannot_be_read() -> None:
    stored = destination()
    replica = Replica(stored)
    async with replica.running():
        replica.store.down = True
        await asyncio.sleep(10)
        assert destination_durable(stored.id) in replica.running_consumers()


@on_virtual_time
async def test_the_default_destination_is_created_and_sent_to() -> None:
    replica = Replica(enable_posthog_destination=True)
    async with replica.running():
        (default,) = replica.store.rows.values()
        assert default.is_default
        assert destination_durable(default.id) in replica.running_consumers()


@on_virtual_time
async def test_a_failing_destination_does_not_delay_another() -> None:
    broken, working = destination(given={"apiKey": "phc_broken"}), destination()
    replica = Replica(broken, working)
    async with replica.running():
        replica.capture.gate.clear()
        for position, each in enumerate((broken, working)):
            durable = destination_durable(each.id)
            subject = "hogsend.engagement.email.opened"
            await replica.deliver(
                FakeMessage(position, subject=subject, body=OPENED, durable=durable)
            )
        assert [key for _, key in replica.capture.projects] == ["phc_broken", "phc_1"]


@on_virtual_time
async def test_a_sender_that_fails_starts_again(capsys: pytest.CaptureFixture[str]) -> None:
    replica = Replica()
    async with replica.running():
        consumer = replica.streams.consumers["persons"]
        consumer.failure.set()
        await settle()
        assert not consumer.runs
        await asyncio.sleep(2)
        assert consumer.runs
    # The log goes to stdout or stderr, depending on whether an earlier test configured logging.
    assert "sender failed and is restarted" in "".join(capsys.readouterr())


@on_virtual_time
async def test_messages_without_a_sender_are_not_acknowledged() -> None:
    message = FakeMessage(1, durable="persons")
    await Replica().delivery.enqueue([message])
    assert message.acks == 0


@on_virtual_time
async def test_positions_are_saved_every_second_and_at_the_end() -> None:
    replica = Replica()
    async with replica.running():
        await asyncio.sleep(3)
        assert replica.streams.saves == 3
        replica.streams.broken = True
        await asyncio.sleep(2)
        replica.streams.broken = False
    assert replica.streams.saves == 4


@on_virtual_time
async def test_a_save_of_positions_that_times_out_is_logged_with_its_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica()

    async def hang() -> None:
        await asyncio.Event().wait()

    async with replica.running():
        with monkeypatch.context() as patch:
            patch.setattr(replica.streams, "save_positions", hang)
            await asyncio.sleep(4)
    log = next(line for line in "".join(capsys.readouterr()).splitlines() if "not saved" in line)
    assert "TimeoutError" in log


@on_virtual_time
async def test_captured_events_are_subscribed_to_while_posthog_accepts_none() -> None:
    replica, captures = Replica(), FakeCaptureSubscription()
    replica.recorder.use_captures(captures)
    replica.capture.gate.clear()

    async def read(first: int) -> None:
        body = b'{"distinctId": "u_1", "event": "e"}'
        await replica.delivery.enqueue(
            [
                FakeMessage(
                    position,
                    subject="hogsend.persons.capture",
                    body=body,
                    durable="persons",
                    queued_at=datetime.now(UTC),
                )
                for position in range(first, first + 500)
            ]
        )
        await settle()

    async with replica.running():
        for first, receives_captures in ((1, False), (501, False), (1001, True)):
            await read(first)
            assert captures.receives_captures == receives_captures
