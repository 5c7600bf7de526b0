"""Missing streams are created; existing ones are not changed."""

from __future__ import annotations

import time

import pytest
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy
from nats.js.errors import APIError, NotFoundError
from prometheus_client import REGISTRY

from cli.stack import nats
from hogsend.contract import streams as stream_declarations
from hogsend.contract import subjects
from hogsend.contract.streams import Limits, StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from services.ingest import jetstream_disk, oldest_webhook
from tests.integration.harness import connected, consumer_api
from tests.servers import Servers
from tests.waiting import eventually

OPENED = f"{subjects.ENGAGEMENT}.email.opened"


async def test_only_missing_streams_are_created(servers: Servers, fresh_bus: None) -> None:
    async with (
        connected(servers, User.INGEST) as bus,
        connected(servers, User.OPERATOR) as operator,
    ):
        await streams.reconcile(bus.js, User.INGEST)
        assert await streams.recreate_missing(bus.js, User.INGEST) == []

        other = stream_declarations.STREAMS[StreamName.EVENTS].config.evolve(max_age=3600)
        await operator.js.update_stream(other)
        await operator.js.delete_stream(StreamName.WEBHOOKS)
        await operator.js.delete_stream(StreamName.ENGAGEMENT)
        created = await streams.recreate_missing(bus.js, User.INGEST)

        assert set(created) == {StreamName.WEBHOOKS, StreamName.ENGAGEMENT}
        kept = await operator.js.stream_info(StreamName.EVENTS)
        assert kept.config.max_age == 3600
        # At a start the limits are updated to the declared ones.
        await streams.reconcile(bus.js, User.INGEST)
        current = await operator.js.stream_info(StreamName.EVENTS)
        assert (
            current.config.max_age == stream_declarations.STREAMS[StreamName.EVENTS].config.max_age
        )


async def test_an_operator_limits_the_size_of_streams(servers: Servers, fresh_bus: None) -> None:
    small = Limits(max_bytes=64 * stream_declarations.MIB)
    async with (
        connected(servers, User.INGEST) as bus,
        connected(servers, User.OPERATOR) as operator,
    ):
        await streams.reconcile(bus.js, User.INGEST)
        await streams.reconcile(bus.js, User.INGEST, small)
        max_bytes = {
            name: (await operator.js.stream_info(name)).config.max_bytes
            for name in (StreamName.EVENTS, StreamName.DEADLETTER, StreamName.AUDIT)
        }
    assert max_bytes == {
        StreamName.EVENTS: 64 * stream_declarations.MIB,
        StreamName.DEADLETTER: 16 * stream_declarations.MIB,
        StreamName.AUDIT: 4 * stream_declarations.MIB,
    }


async def test_a_server_with_too_little_storage_is_reported(
    servers: Servers, fresh_bus: None
) -> None:
    async with connected(servers, User.INGEST) as bus:
        too_large = Limits(max_bytes=2**50)
        with pytest.raises(APIError) as refused:
            await streams.reconcile(bus.js, User.INGEST, too_large)
    remedy = streams.hint(refused.value)
    assert remedy is not None
    assert "NATS_STREAM_MAX_BYTES" in remedy
    assert streams.hint(NotFoundError(code=404, err_code=10059)) is None


def test_the_embedded_server_has_storage_for_every_stream() -> None:
    for limits in (stream_declarations.DEFAULT_LIMITS, Limits(replicas=3, max_bytes=2**40)):
        declared = [
            limits.applied_to(stream.config).max_bytes or 0
            for stream in stream_declarations.STREAMS.values()
        ]
        assert sum(declared) < limits.total_bytes() < nats.max_file_store(limits)


async def test_a_stream_keeps_its_reports_when_its_retention_changes_from_interest_to_limits(
    servers: Servers, fresh_bus: None
) -> None:
    async with (
        connected(servers, User.INGEST) as bus,
        connected(servers, User.OPERATOR) as operator,
    ):
        config = stream_declarations.STREAMS[StreamName.ENGAGEMENT].config
        await operator.js.add_stream(config.evolve(retention=RetentionPolicy.INTEREST))
        await operator.js.add_consumer(
            StreamName.ENGAGEMENT, stream_declarations.ENGAGEMENT_CONSUMER
        )
        await operator.js.publish(OPENED, b"{}", timeout=2)
        await streams.reconcile(bus.js, User.INGEST)
        info = await operator.js.stream_info(StreamName.ENGAGEMENT)
        assert (info.config.retention, info.state.messages) == (RetentionPolicy.LIMITS, 1)


async def test_messages_that_jetstream_copied_into_other_streams_are_deleted(
    servers: Servers, fresh_bus: None
) -> None:
    async with (
        consumer_api(servers),
        connected(servers, User.INGEST) as ingest,
        connected(servers, User.OPERATOR) as operator,
    ):
        await operator.publish("hogsend.webhooks.posthog", b"{}", {})
        assert await streams.purge_strays(ingest.js, User.INGEST) == {}
        for number in range(3):
            await operator.publish("hogsend.events.x", b"%d" % number, {})
        config = ConsumerConfig(durable_name="mine", ack_policy=AckPolicy.EXPLICIT)
        await operator.js.add_consumer(StreamName.EVENTS, config)
        for target in ("hogsend.webhooks.posthog", "hogsend.deadletter.WEBHOOKS"):
            request = "$JS.API.CONSUMER.MSG.NEXT.EVENTS.mine"
            # Every reader can do this on a NATS server without Hogsend's configuration.
            await operator.client.publish(request, b"1", reply=target)
        purged: dict[str, int] = {}

        async def are_purged() -> bool:
            for name, count in (await streams.purge_strays(ingest.js, User.INGEST)).items():
                purged[name] = purged.get(name, 0) + count
            return len(purged) == 2

        await eventually(are_purged)
        assert purged == {StreamName.WEBHOOKS: 1, StreamName.DEADLETTER: 1}
        assert (await operator.js.stream_info(StreamName.WEBHOOKS)).state.messages == 1
        assert (await operator.js.stream_info(StreamName.EVENTS)).state.messages == 3


async def test_the_measured_storage_includes_every_stream_of_the_account(
    servers: Servers, fresh_bus: None
) -> None:
    async with (
        connected(servers, User.INGEST) as bus,
        connected(servers, User.OPERATOR) as operator,
    ):
        await jetstream_disk.measure(bus)
        assert jetstream_disk.USED.labels("file")._value.get() == 0
        await streams.reconcile(bus.js, User.INGEST)
        await operator.js.publish(OPENED, b"x" * 10_000)
        await jetstream_disk.measure(bus)
        assert jetstream_disk.USED.labels("file")._value.get() > 10_000
        reserved = jetstream_disk.RESERVED.labels("file")._value.get()
        assert reserved > stream_declarations.STREAMS[StreamName.EVENTS].config.max_bytes
        assert jetstream_disk.LIMIT.labels("file")._value.get() > reserved


async def test_the_timestamp_of_the_oldest_unread_webhook_is_exported(
    servers: Servers, fresh_bus: None
) -> None:
    def oldest_timestamp() -> float | None:
        labels = {"stream": StreamName.WEBHOOKS.value}
        return REGISTRY.get_sample_value("hogsend_stream_oldest_timestamp_seconds", labels)

    async with (
        connected(servers, User.INGEST) as bus,
        connected(servers, User.OPERATOR) as operator,
    ):
        await streams.reconcile(bus.js, User.INGEST)
        await oldest_webhook.measure(bus)
        assert oldest_timestamp() is None
        for number in range(2):
            await operator.publish("hogsend.webhooks.posthog", b"%d" % number, {})
        await oldest_webhook.measure(bus)
        before_purge = oldest_timestamp()
        assert before_purge is not None
        assert before_purge <= time.time()
        await operator.js.purge_stream(StreamName.WEBHOOKS, keep=1)
        await oldest_webhook.measure(bus)
        after_purge = oldest_timestamp()
        assert after_purge is not None
        assert before_purge < after_purge <= time.time()
