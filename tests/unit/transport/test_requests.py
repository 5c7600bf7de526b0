"""What a caller gets for an answer it cannot read."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.msg import Msg

from hogsend.contract.base import Empty
from hogsend.contract.credentials import CREDENTIALS_STATUS, ProviderRef
from hogsend.contract.errors import Unavailable, UnreadableReply
from hogsend.contract.health import ANALYTICS_HEALTH
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User
from hogsend.transport.connection import Connection


class Answered(Connection):
    """A connection where every request is answered with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(User.GATEWAY, "nats://127.0.0.1:1")
        self._answer = answer

    @property
    def connected(self) -> bool:
        return True

    async def ask(self, subject: str, *_: Any, **__: Any) -> Msg:
        return Msg(self.client, subject, data=self._answer)


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"{", b"[]", b'{"t0ps3cret": 1}', b"\xff", b'"t0ps3cret"', b'{"unread": "\xff"}'),
        b'{"t0ps3cret": ' + b"[" * 2_000 + b"]" * 2_000 + b"}",
    ],
    ids=lambda answer: repr(answer[:24]) if isinstance(answer, bytes) else None,
)
@pytest.mark.parametrize(
    ("endpoint", "request_"),
    [(CREDENTIALS_STATUS, ProviderRef(provider_id="posthog")), (ANALYTICS_HEALTH, Empty())],
)
async def test_an_answer_of_another_shape_is_an_error_that_quotes_nothing_of_it(
    answer: bytes, endpoint: Endpoint[Any, Any], request_: Any
) -> None:
    with pytest.raises(UnreadableReply, match=f"the {endpoint.service} service") as refused:
        await Answered(answer).request(endpoint, request_)
    assert "t0ps3cret" not in str(refused.value)
    assert refused.value.__suppress_context__


class Broken(Answered):
    """A connection that breaks as a request is written."""

    async def ask(self, subject: str, *_: Any, **__: Any) -> Msg:
        raise ConnectionResetError(subject)


async def test_a_connection_that_breaks_as_it_is_written_to_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await Broken(b"").request(ANALYTICS_HEALTH, Empty())
