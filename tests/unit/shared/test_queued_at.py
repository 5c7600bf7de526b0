"""The time a message was queued is read out of where it is acknowledged."""

from __future__ import annotations

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from hogsend.service.queued_message import queued_at

PLACE = "WEBHOOKS.ingest.2.7.9.1767225600123456789.4"


@pytest.mark.parametrize("before", ["", "_.hash.", "hub.hash."])
@pytest.mark.parametrize("after", ["", ".token"])
def test_the_time_is_that_of_all_metadata(before: str, after: str) -> None:
    reply = f"$JS.ACK.{before}{PLACE}{after if before else ''}"
    message = Msg(Client(), reply=reply)
    assert queued_at(message) == message.metadata.timestamp
