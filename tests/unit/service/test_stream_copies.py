"""A start adds copies of streams, and gives none up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from nats.js.api import ConsumerConfig, StreamConfig
from nats.js.errors import BadRequestError

from hogsend.contract.streams import STREAMS, Limits
from hogsend.contract.users import User
from hogsend.service import streams


class JetStream:
    """Has every stream already, on a number of servers."""

    def __init__(self, copies: int) -> None:
        self._copies = copies
        self.updated: dict[str, int | None] = {}

    async def add_stream(self, _config: StreamConfig) -> None:
        raise BadRequestError(err_code=10058)

    async def add_consumer(self, _stream: str, _config: ConsumerConfig) -> None:
        pass

    async def stream_info(self, _name: str) -> Any:
        return SimpleNamespace(config=StreamConfig(num_replicas=self._copies))

    async def update_stream(self, config: StreamConfig) -> None:
        self.updated[config.name or ""] = config.num_replicas


@pytest.mark.parametrize(("found", "wanted", "kept"), [(1, 3, 3), (3, 3, 3), (3, 1, 3), (1, 1, 1)])
async def test_copies_are_added_and_none_given_up(found: int, wanted: int, kept: int) -> None:
    js: Any = JetStream(found)
    await streams.reconcile(js, User.INGEST, Limits(wanted))
    own = {name for name, stream in STREAMS.items() if stream.owner is User.INGEST}
    assert js.updated == dict.fromkeys(own, kept)
