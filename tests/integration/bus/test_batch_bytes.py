"""A batch of messages is limited in bytes, and no message is lost."""

from __future__ import annotations

import pytest
from nats.js.api import ConsumerConfig

from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport import pull
from hogsend.transport.consumer import Consumer
from hogsend.transport.publisher import OutgoingMessage
from tests.integration.harness import connected
from tests.servers import Servers


async def test_a_batch_of_large_messages_is_split(
    servers: Servers, fresh_bus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "BATCH_BYTES", 1)
    async with connected(servers, User.OPERATOR) as operator:
        await streams.reconcile(operator.js, User.INGEST)
        async with connected(servers, User.INGEST) as ingest:
            size, sent = 4_000_000, 6
            max_bytes = ingest.max_payload + pull.FRAMING_BYTES
            for id in range(sent):
                large = OutgoingMessage("hogsend.events.e", b"x" * size, {"Nats-Msg-Id": str(id)})
                await ingest.publisher.publish(large, within=10)
        config = ConsumerConfig(durable_name="large", max_ack_pending=100)
        sizes: list[int] = []
        async for batch in Consumer(operator, StreamName.EVENTS, config, batch=100).batches():
            assert sum(len(message.data) for message in batch) <= max_bytes
            sizes.append(len(batch))
            for message in batch:
                await message.ack()
            if sum(sizes) == sent:
                break
    assert len(sizes) > 1
