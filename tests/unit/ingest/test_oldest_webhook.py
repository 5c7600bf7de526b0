"""The oldest webhook's age: known without reading it, and absent where there is none."""

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
    """JetStream with an answer, or without one."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer

    @property
    def connected(self) -> bool:
        return self.answer != b""

    async def request_raw(self, subject: str, _: bytes, **__: float) -> Msg:
        assert subject == "$JS.API.STREAM.INFO.WEBHOOKS"
        if isinstance(self.answer, Exception):
            raise self.answer
        return Msg(cast("Any", None), data=self.answer)


def stream(messages: int, first: str) -> bytes:
    return json.dumps({"state": {"messages": messages, "first_ts": first}}).encode()


async def measured(answer: bytes | Exception) -> float | None:
    await oldest_webhook.measure(cast("Connection", Link(answer)))
    return REGISTRY.get_sample_value(
        "hogsend_stream_oldest_timestamp_seconds", {"stream": "WEBHOOKS"}
    )


async def test_the_oldest_is_known_to_the_microsecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_007.0)
    assert await measured(stream(2, "2001-09-09T01:46:40.123456789Z")) == pytest.approx(
        1_000_000_000.123457, abs=1e-5
    )
    assert oldest_webhook.waited_seconds() == pytest.approx(6.876543, abs=1e-5)


async def test_a_clock_that_is_behind_makes_no_age_below_0() -> None:
    await measured(stream(1, "2999-01-01T00:00:00Z"))
    assert oldest_webhook.waited_seconds() == 0


@pytest.mark.parametrize(
    "answer",
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
async def test_none_that_waits_and_none_that_is_known_have_no_age(
    answer: bytes | Exception,
) -> None:
    await measured(stream(2, "2001-09-09T01:46:40Z"))
    assert await measured(answer) is None
    assert oldest_webhook.waited_seconds() == 0
