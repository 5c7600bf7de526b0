"""A server that refuses fields which it does not know gets its streams all the same."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js.api import StreamConfig
from nats.js.errors import BadRequestError

from hogsend.contract.streams import STREAMS
from hogsend.contract.users import User
from hogsend.service import streams


class JetStream212:
    """nats-server 2.12, which knows no batches."""

    def __init__(self) -> None:
        self.had: set[str] = set()
        self.made: list[str] = []
        self.updated: list[str] = []

    async def add_stream(self, config: StreamConfig) -> None:
        self._check(config)
        if config.name in self.had:
            raise BadRequestError(code=400, err_code=10058)
        self.made.append(str(config.name))

    async def update_stream(self, config: StreamConfig) -> None:
        self._check(config)
        self.updated.append(str(config.name))

    async def add_consumer(self, *_: object) -> None:
        pass

    async def stream_info(self, _name: str) -> Any:
        return type("Info", (), {"config": StreamConfig(num_replicas=1)})

    def _check(self, config: StreamConfig) -> None:
        if config.allow_batched is not None:
            said = 'invalid JSON: json: unknown field "allow_batched"'
            raise BadRequestError(code=400, err_code=10025, description=said)


@pytest.mark.parametrize("exists", [False, True])
async def test_streams_are_made_and_changed_without_what_the_server_does_not_know(
    *, exists: bool
) -> None:
    fake = JetStream212()
    js: Any = fake
    own = {str(name) for name, stream in STREAMS.items() if stream.owner is User.INGEST}
    fake.had = own if exists else set()
    await streams.reconcile(js, User.INGEST)
    assert set(fake.updated if exists else fake.made) == own


async def test_any_other_request_that_cannot_be_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(_config: StreamConfig) -> None:
        raise BadRequestError(code=400, err_code=10025)

    js: Any = JetStream212()
    monkeypatch.setattr(js, "add_stream", refuse)
    with pytest.raises(BadRequestError):
        await streams.reconcile(js, User.CREDENTIALS)
