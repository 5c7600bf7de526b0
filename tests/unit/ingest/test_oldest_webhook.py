"""The age of the oldest webhook is read from the stream's state; it is absent without webhooks."""

from __future__ import annotations

import json
import time
from typing import Any, cast

import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from prometheus_client import REGISTRY

from hogsend.contract.errors import Forbidden
from hogsend.transport.connection import Connection
from services.ingest import oldest_webhook


class Link:
    """A connection on which JetStream sends `reply`; empty while it is disconnected."""

    def __init__(self, reply: bytes | Exception) -> None:
        self.reply = reply

    @property
    def connected(self) -> bool:
        return self.reply != b""

    async def request_raw(self, subject: str, _: bytes, **__: float) -> Msg:
        assert subject == "$JS.API.STREAM.INFO.WEBHOOKS"
        if isinstance(self.reply, Exception):
            raise self.reply
        return Msg(cast("Any", None), data=self.reply)


def stream(messages: int, first: str) -> bytes:
    return json.dumps({"state": {"messages": messages, "first_ts": first}}).encode()


async def measured(reply: bytes | Exception) -> float | None:
    await oldest_webhook.measure(cast("Connection", Link(reply)))
    return REGISTRY.get_sample_value(
        "hogsend_stream_oldest_timestamp_seconds", {"stream": "WEBHOOKS"}
    )


async def test_the_time_of_the_oldest_webhook_is_exact_to_the_microsecond(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_007.0)
    assert await measured(stream(2, "2001-09-09T01:46:40.123456789Z")) == pytest.approx(
        1_000_000_000.123457, abs=1e-5
    )
    assert oldest_webhook.waited_seconds() == pytest.approx(6.876543, abs=1e-5)


async def test_the_age_of_a_webhook_with_a_time_in_the_future_is_0() -> None:
    await measured(stream(1, "2999-01-01T00:00:00Z"))
    assert oldest_webhook.waited_seconds() == 0


@pytest.mark.parametrize(
    "reply",
    [
        stream(0, "0001-01-01T00:00:00Z"),
        NoRespondersError(),
        TimeoutError(),
        b"",
        b'{"error": {"code": 503}}',
        Forbidden("no"),
    ],
    ids=str,
)
async def test_the_age_is_absent_without_webhooks_or_when_the_stream_cannot_be_read(
    reply: bytes | Exception,
) -> None:
    await measured(stream(2, "2001-09-09T01:46:40Z"))
    assert await measured(reply) is None
    assert oldest_webhook.waited_seconds() == 0
