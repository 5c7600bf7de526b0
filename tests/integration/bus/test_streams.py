"""Streams that are gone are made again; those that are there stay as they are."""

from __future__ import annotations

import pytest
from nats.js.api import ConsumerConfig, ConsumerInfo
from nats.js.errors import NoStreamResponseError

from hogsend import streams, subjects
from hogsend.channels import StreamName, User
from tests.integration.harness import connected
from tests.servers import Servers

OPENED = f"{subjects.ENGAGEMENT}.email.opened"


async def test_only_what_is_gone_is_made(servers: Servers, fresh_bus: None) -> None:
    async with (
        connected(servers, User.INGEST) as bus,
        connected(servers, User.OPERATOR) as operator,
    ):
        await streams.reconcile(bus.js, User.INGEST)
        assert await streams.restore(bus.js, User.INGEST) == []

        other = streams.STREAMS[StreamName.EVENTS].config.evolve(max_age=3600)
        await operator.js.update_stream(other)
        await operator.js.delete_stream(StreamName.WEBHOOKS)
        await operator.js.delete_stream(StreamName.ENGAGEMENT)
        made = await streams.restore(bus.js, User.INGEST)

        assert set(made) == {StreamName.WEBHOOKS, StreamName.ENGAGEMENT}
        kept = await operator.js.stream_info(StreamName.EVENTS)
        assert kept.config.max_age == 3600
        # A start brings the limits up to what is declared.
        await streams.reconcile(bus.js, User.INGEST)
        current = await operator.js.stream_info(StreamName.EVENTS)
        assert current.config.max_age == streams.STREAMS[StreamName.EVENTS].config.max_age


async def test_no_report_is_accepted_before_somebody_records_it(
    servers: Servers, fresh_bus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        connected(servers, User.INGEST) as bus,
        connected(servers, User.OPERATOR) as operator,
    ):
        add_consumer = bus.js.add_consumer
        refused = False

        async def add_late(stream: str, config: ConsumerConfig) -> ConsumerInfo:
            nonlocal refused
            with pytest.raises(NoStreamResponseError):
                await operator.js.publish(OPENED, b"{}", timeout=2)
            refused = True
            return await add_consumer(stream, config)

        monkeypatch.setattr(bus.js, "add_consumer", add_late)
        await streams.reconcile(bus.js, User.INGEST)
        assert refused
        await operator.js.publish(OPENED, b"{}", timeout=2)
        assert not await streams.is_empty(bus.js, StreamName.ENGAGEMENT)


async def test_a_start_opens_what_a_killed_one_left_closed(
    servers: Servers, fresh_bus: None
) -> None:
    async with (
        connected(servers, User.INGEST) as bus,
        connected(servers, User.OPERATOR) as operator,
    ):
        config = streams.STREAMS[StreamName.ENGAGEMENT].config
        await operator.js.add_stream(config.evolve(subjects=[subjects.ENGAGEMENT]))
        with pytest.raises(NoStreamResponseError):
            await operator.js.publish(OPENED, b"{}", timeout=2)
        await streams.reconcile(bus.js, User.INGEST)
        await operator.js.publish(OPENED, b"{}", timeout=2)
        assert not await streams.is_empty(bus.js, StreamName.ENGAGEMENT)
