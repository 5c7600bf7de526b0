"""Streams are created without fields that the server does not know and would reject."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js.api import StreamConfig
from nats.js.errors import BadRequestError

from hogsend.contract.streams import STREAMS
from hogsend.contract.users import User
from hogsend.service import streams


class JetStream212:
    """nats-server 2.12, which rejects the field `allow_batched`."""

    def __init__(self) -> None:
        self.existing: set[str] = set()
        self.created: list[str] = []
        self.updated: list[str] = []

    async def add_stream(self, config: StreamConfig) -> None:
        self._check(config)
        if config.name in self.existing:
            raise BadRequestError(code=400, err_code=10058)
        self.created.append(str(config.name))

    async def update_stream(self, config: StreamConfig) -> None:
        self._check(config)
        self.updated.append(str(config.name))

    async def add_consumer(self, *_: object) -> None:
        pass

    async def stream_info(self, _name: str) -> Any:
        return type("Info", (), {"config": StreamConfig(num_replicas=1)})

    def _check(self, config: StreamConfig) -> None:
        if config.allow_batched is not None:
            text = 'invalid JSON: json: unknown field "allow_batched"'
            raise BadRequestError(code=400, err_code=10025, description=text)


@pytest.mark.parametrize("exists", [False, True])
async def test_streams_are_created_and_updated_without_unknown_fields(*, exists: bool) -> None:
    fake = JetStream212()
    js: Any = fake
    own = {str(name) for name, stream in STREAMS.items() if stream.owner is User.INGEST}
    fake.existing = own if exists else set()
    await streams.reconcile(js, User.INGEST)
    assert set(fake.updated if exists else fake.created) == own


@pytest.mark.parametrize(
    ("owner", "err_code"),
    # The stream of analytics has the field, the one of credentials does not.
    [(User.CREDENTIALS, 10025), (User.ANALYTICS, 10052)],
)
async def test_another_request_that_the_server_rejects_is_an_error_and_not_repeated(
    owner: User, err_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[StreamConfig] = []

    async def refuse(config: StreamConfig) -> None:
        requests.append(config)
        raise BadRequestError(code=400, err_code=err_code)

    js: Any = JetStream212()
    monkeypatch.setattr(js, "add_stream", refuse)
    with pytest.raises(BadRequestError):
        await streams.reconcile(js, owner)
    assert len(requests) == 1
    assert bool(requests[0].allow_batched) is (owner is User.ANALYTICS)
