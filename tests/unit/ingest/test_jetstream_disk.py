"""What JetStream stores in all: known, unlimited, or unknown, and never what it was before."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from prometheus_client import REGISTRY

from hogsend.contract.errors import Forbidden
from hogsend.transport.connection import Connection
from services.ingest import jetstream_disk


class Link:
    """JetStream with an answer, or without one."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer

    @property
    def connected(self) -> bool:
        return self.answer != b""

    async def request_raw(self, subject: str, _: bytes, **__: float) -> Msg:
        assert subject == "$JS.API.INFO"
        if isinstance(self.answer, Exception):
            raise self.answer
        return Msg(cast("Any", None), data=self.answer)


def account(limit: int) -> bytes:
    limits = {"max_memory": -1, "max_storage": limit, "max_streams": -1}
    said = {"type": "x", "memory": 3, "storage": 50, "reserved_storage": 70, "limits": limits}
    return json.dumps(said).encode()


async def measured(answer: bytes | Exception) -> tuple[float, list[float | None]]:
    seconds = await jetstream_disk.measure(cast("Connection", Link(answer)))
    names = ("bytes", "reserved_bytes", "limit_bytes")
    return seconds, [
        REGISTRY.get_sample_value(f"hogsend_jetstream_{name}", {"storage": "file"})
        for name in names
    ]


async def test_an_account_is_measured_with_its_limit_while_it_has_one() -> None:
    assert (await measured(account(100)))[1] == [50, 70, 100]
    assert REGISTRY.get_sample_value("hogsend_jetstream_bytes", {"storage": "memory"}) == 3
    assert (await measured(account(-1)))[1] == [50, 70, None]


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (NoRespondersError(), jetstream_disk.EVERY_SECONDS),
        (TimeoutError(), jetstream_disk.EVERY_SECONDS),
        (b"", jetstream_disk.EVERY_SECONDS),
        (b'{"error": {"code": 503}}', jetstream_disk.EVERY_SECONDS),
        (Forbidden("no"), jetstream_disk.REFUSED_SECONDS),
    ],
    ids=str,
)
async def test_what_is_not_known_any_more_is_absent(
    answer: bytes | Exception, again: float
) -> None:
    await measured(account(100))
    assert await measured(answer) == (again, [None, None, None])
