"""Reading persons with the client."""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.client.persons import PersonsClient
from hogsend.client.writer import Writer
from hogsend.contract.errors import HogsendError, TooLarge, Unavailable
from hogsend.contract.users import User
from hogsend.transport.connection import Connection


class Failing(Connection):
    """A connection on which every request fails with the same error."""

    def __init__(self, error: HogsendError) -> None:
        super().__init__(User.APP, "nats://127.0.0.1:1")
        self._error = error

    async def request(self, *_: Any, **__: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (Unavailable("the analytics service is not running"), "is not running"),
        (
            TooLarge("the reply is larger than NATS' max_payload; request less"),
            "raise its max_payload",
        ),
    ],
)
async def test_a_person_who_cannot_be_read_is_empty_and_the_reason_is_logged(
    error: HogsendError, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    connection = Failing(error)
    assert await PersonsClient(connection, Writer(connection)).get("u_42") == {}
    assert logged in caplog.text
