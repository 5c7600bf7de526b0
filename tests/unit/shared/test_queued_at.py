"""`queued_at`: reads the time a message was queued from its acknowledgement subject."""

from __future__ import annotations

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from hogsend.service.queued_message import queued_at

METADATA = "WEBHOOKS.ingest.2.7.9.1767225600123456789.4"


@pytest.mark.parametrize("before", ["", "_.hash.", "hub.hash."])
@pytest.mark.parametrize("after", ["", ".token"])
def test_the_queued_time_equals_the_timestamp_in_the_metadata_of_nats_py(
    before: str, after: str
) -> None:
    reply = f"$JS.ACK.{before}{METADATA}{after if before else ''}"
    message = Msg(Client(), reply=reply)
    assert queued_at(message) == message.metadata.timestamp
