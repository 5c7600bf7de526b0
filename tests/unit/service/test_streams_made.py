"""Streams are made although JetStream still deletes earlier ones of their names."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js.api import StreamConfig
from nats.js.errors import ServerError

from hogsend.contract.users import User
from hogsend.service import streams


class FakeJetStream:
    """Refuses so often that a store can be made."""

    def __init__(self, refusals: int, err_code: int) -> None:
        self.refusals = refusals
        self.err_code = err_code
        self.made: list[str | None] = []

    async def add_stream(self, config: StreamConfig) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ServerError(code=500, err_code=self.err_code, description="no store")
        self.made.append(config.name)


async def test_a_store_that_cannot_be_made_yet_is_asked_for_again() -> None:
    js: Any = FakeJetStream(2, 10049)
    await streams.reconcile(js, User.CREDENTIALS)
    assert js.made == ["CREDENTIALS"]


async def test_another_refusal_is_raised_at_once() -> None:
    js: Any = FakeJetStream(1, 10047)
    with pytest.raises(ServerError):
        await streams.reconcile(js, User.CREDENTIALS)
    assert js.made == []
