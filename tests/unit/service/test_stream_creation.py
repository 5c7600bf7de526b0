"""Streams are created, also while JetStream deletes earlier ones; existing ones are measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from nats.js.api import StreamConfig
from nats.js.errors import (
    BadRequestError,
    NotFoundError,
    ServerError,
    ServiceUnavailableError,
)

from hogsend.contract.users import User
from hogsend.service import metrics, streams


class FakeJetStream:
    """Rejects the first `refusals` requests to create a stream."""

    def __init__(self, refusals: int, err_code: int) -> None:
        self.refusals = refusals
        self.err_code = err_code
        self.created: list[str | None] = []

    async def add_stream(self, config: StreamConfig) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ServerError(code=500, err_code=self.err_code, description="no store")
        self.created.append(config.name)


async def test_creating_a_stream_is_retried_while_its_store_cannot_be_created() -> None:
    js: Any = FakeJetStream(2, 10049)
    await streams.reconcile(js, User.CREDENTIALS)
    assert js.created == ["CREDENTIALS"]


async def test_another_refusal_is_raised_at_once() -> None:
    js: Any = Streams()
    js.refusals, js.err_code = 1, 10047
    with pytest.raises(ServerError):
        await streams.reconcile(js, User.CREDENTIALS)
    assert js.created == []


class Streams(FakeJetStream):
    """Has one stream, or none, which another replica may create meanwhile."""

    def __init__(self, info: Any = None) -> None:
        super().__init__(0, 0)
        self.info = info
        self.is_created_meanwhile = False

    async def stream_info(self, _name: str, _pattern: str = "") -> Any:
        if self.info is None:
            raise NotFoundError
        return self.info

    async def add_stream(self, config: StreamConfig) -> None:
        if self.is_created_meanwhile:
            raise BadRequestError(code=400, err_code=10058, description="name already in use")
        await super().add_stream(config)


async def test_an_existing_stream_is_measured_and_not_changed() -> None:
    state = SimpleNamespace(messages=3, bytes=400)
    js: Any = Streams(SimpleNamespace(state=state, config=StreamConfig(max_bytes=5000)))
    assert await streams.recreate_missing(js, User.CREDENTIALS) == []
    assert js.created == []
    gauges = (metrics.STREAM_MESSAGES, metrics.STREAM_BYTES, metrics.STREAM_LIMIT_BYTES)
    assert [gauge.labels("CREDENTIALS")._value.get() for gauge in gauges] == [3, 400, 5000]


def stream_metrics(stream: str) -> dict[str, float]:
    """Return the metrics of a stream by name."""
    gauges = (metrics.STREAM_MESSAGES, metrics.STREAM_BYTES, metrics.STREAM_LIMIT_BYTES)
    return {
        sample.name: sample.value
        for gauge in gauges
        for family in gauge.collect()
        for sample in family.samples
        if sample.labels["stream"] == stream
    }


async def test_a_removed_limit_and_a_deleted_stream_leave_no_metrics() -> None:
    state = SimpleNamespace(messages=3, bytes=400)
    js: Any = Streams(SimpleNamespace(state=state, config=StreamConfig(max_bytes=5000)))
    await streams.recreate_missing(js, User.CREDENTIALS)
    assert stream_metrics("CREDENTIALS")["hogsend_stream_limit_bytes"] == 5000

    js.info.config = StreamConfig(max_bytes=-1)
    await streams.recreate_missing(js, User.CREDENTIALS)
    remaining = {"hogsend_stream_messages": 3, "hogsend_stream_bytes": 400}
    assert stream_metrics("CREDENTIALS") == remaining

    js.info, js.refusals, js.err_code = None, 1, 10047
    with pytest.raises(ServerError):
        await streams.recreate_missing(js, User.CREDENTIALS)
    assert stream_metrics("CREDENTIALS") == {}


@pytest.mark.parametrize("is_created_meanwhile", [True, False])
async def test_only_a_stream_that_this_replica_created_is_reported_as_missing(
    is_created_meanwhile: bool,
) -> None:
    js: Any = Streams()
    js.is_created_meanwhile = is_created_meanwhile
    assert await streams.recreate_missing(js, User.CREDENTIALS) == (
        [] if is_created_meanwhile else js.created
    )
    assert js.created == ([] if is_created_meanwhile else ["CREDENTIALS"])


async def test_a_missing_stream_has_no_strays_to_purge() -> None:
    js: Any = Streams()
    assert await streams.purge_strays(js, User.INGEST) == {}


def test_a_stream_that_cannot_be_created_is_reported_with_its_reason_and_fix() -> None:
    full = ServerError(code=500, err_code=10047, description="insufficient storage resources")
    assert "max_file_store" in str(streams.hint(full))
    assert "insufficient storage" in streams.reason(full)
    # No subscriber answers, so nats-py raises an error without a code or a text.
    without = ServiceUnavailableError()
    assert "--jetstream" in str(streams.hint(without))
    assert streams.reason(without) == "no JetStream answers on this NATS server"
    for other in (ServiceUnavailableError(err_code=10008, description="no leader"), OSError("x")):
        assert streams.hint(other) is None
        assert "no JetStream" not in streams.reason(other)
    assert streams.reason(TimeoutError()) == "TimeoutError"
