"""Streams are made, also while JetStream deletes earlier ones, and those there are measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from nats.js.api import StreamConfig
from nats.js.errors import BadRequestError, NotFoundError, ServerError

from hogsend.contract.users import User
from hogsend.service import metrics, streams


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


class Streams(FakeJetStream):
    """Has one stream, or none; another replica may make it in between."""

    def __init__(self, found: Any = None) -> None:
        super().__init__(0, 0)
        self.found = found
        self.is_made_meanwhile = False

    async def stream_info(self, _name: str, _pattern: str = "") -> Any:
        if self.found is None:
            raise NotFoundError
        return self.found

    async def add_stream(self, config: StreamConfig) -> None:
        if self.is_made_meanwhile:
            raise BadRequestError(code=400, err_code=10058, description="name already in use")
        await super().add_stream(config)


async def test_a_stream_that_is_there_is_measured_and_left_as_it_is() -> None:
    state = SimpleNamespace(messages=3, bytes=400)
    js: Any = Streams(SimpleNamespace(state=state, config=StreamConfig(max_bytes=5000)))
    assert await streams.restore(js, User.CREDENTIALS) == []
    assert js.made == []
    measured = (metrics.STREAM_MESSAGES, metrics.STREAM_BYTES, metrics.STREAM_LIMIT_BYTES)
    assert [one.labels("CREDENTIALS")._value.get() for one in measured] == [3, 400, 5000]


def figures(stream: str) -> dict[str, float]:
    """The gauges that there are of a stream."""
    measured = (metrics.STREAM_MESSAGES, metrics.STREAM_BYTES, metrics.STREAM_LIMIT_BYTES)
    return {
        sample.name: sample.value
        for gauge in measured
        for family in gauge.collect()
        for sample in family.samples
        if sample.labels["stream"] == stream
    }


async def test_a_limit_that_was_removed_and_a_stream_that_is_gone_leave_no_figures() -> None:
    state = SimpleNamespace(messages=3, bytes=400)
    js: Any = Streams(SimpleNamespace(state=state, config=StreamConfig(max_bytes=5000)))
    await streams.restore(js, User.CREDENTIALS)
    assert figures("CREDENTIALS")["hogsend_stream_limit_bytes"] == 5000

    js.found.config = StreamConfig(max_bytes=-1)
    await streams.restore(js, User.CREDENTIALS)
    there = {"hogsend_stream_messages": 3, "hogsend_stream_bytes": 400}
    assert figures("CREDENTIALS") == there

    js.found, js.refusals, js.err_code = None, 1, 10047
    with pytest.raises(ServerError):
        await streams.restore(js, User.CREDENTIALS)
    assert figures("CREDENTIALS") == {}


@pytest.mark.parametrize("is_made_meanwhile", [True, False])
async def test_only_a_stream_that_was_made_here_is_said_to_have_been_missing(
    is_made_meanwhile: bool,
) -> None:
    js: Any = Streams()
    js.is_made_meanwhile = is_made_meanwhile
    assert await streams.restore(js, User.CREDENTIALS) == ([] if is_made_meanwhile else js.made)
    assert js.made == ([] if is_made_meanwhile else ["CREDENTIALS"])


async def test_nothing_strays_into_a_stream_that_is_not_there() -> None:
    js: Any = Streams()
    assert await streams.purge_strays(js, User.INGEST) == {}
