"""A start adds replicas of streams, and removes none."""

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
    """Has all streams, each with a number of replicas."""

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


@pytest.mark.parametrize(
    ("existing", "configured", "result"), [(1, 3, 3), (3, 3, 3), (3, 1, 3), (1, 1, 1)]
)
async def test_replicas_are_added_and_none_removed(
    existing: int, configured: int, result: int
) -> None:
    js: Any = JetStream(existing)
    await streams.reconcile(js, User.INGEST, Limits(configured))
    own = {name for name, stream in STREAMS.items() if stream.owner is User.INGEST}
    assert js.updated == dict.fromkeys(own, result)
