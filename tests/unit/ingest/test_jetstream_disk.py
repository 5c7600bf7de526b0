"""The gauges of JetStream's storage: set, without a limit, or absent, and never outdated."""

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
    """A connection on which JetStream sends `reply`; empty while it is disconnected."""

    def __init__(self, reply: bytes | Exception) -> None:
        self.reply = reply

    @property
    def connected(self) -> bool:
        return self.reply != b""

    async def request_raw(self, subject: str, _: bytes, **__: float) -> Msg:
        assert subject == "$JS.API.INFO"
        if isinstance(self.reply, Exception):
            raise self.reply
        return Msg(cast("Any", None), data=self.reply)


def account(limit: int) -> bytes:
    limits = {"max_memory": -1, "max_storage": limit, "max_streams": -1}
    info = {"type": "x", "memory": 3, "storage": 50, "reserved_storage": 70, "limits": limits}
    return json.dumps(info).encode()


async def measured(reply: bytes | Exception) -> tuple[float, list[float | None]]:
    seconds = await jetstream_disk.measure(cast("Connection", Link(reply)))
    names = ("bytes", "reserved_bytes", "limit_bytes")
    return seconds, [
        REGISTRY.get_sample_value(f"hogsend_jetstream_{name}", {"storage": "file"})
        for name in names
    ]


async def test_the_limit_of_an_account_is_measured_only_if_the_account_has_a_limit() -> None:
    assert (await measured(account(100)))[1] == [50, 70, 100]
    assert REGISTRY.get_sample_value("hogsend_jetstream_bytes", {"storage": "memory"}) == 3
    assert (await measured(account(-1)))[1] == [50, 70, None]


@pytest.mark.parametrize(
    ("reply", "pause"),
    [
        (NoRespondersError(), jetstream_disk.EVERY_SECONDS),
        (TimeoutError(), jetstream_disk.EVERY_SECONDS),
        (b"", jetstream_disk.EVERY_SECONDS),
        (b'{"error": {"code": 503}}', jetstream_disk.EVERY_SECONDS),
        (Forbidden("no"), jetstream_disk.REFUSED_SECONDS),
    ],
    ids=str,
)
async def test_the_gauges_are_removed_when_jetstreams_storage_cannot_be_read(
    reply: bytes | Exception, pause: float
) -> None:
    await measured(account(100))
    assert await measured(reply) == (pause, [None, None, None])
