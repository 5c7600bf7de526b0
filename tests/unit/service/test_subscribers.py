"""How requests are decoded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.persons import GetPerson
from hogsend.service.subscribers import decoder_of


def request(body: bytes) -> Any:
    return SimpleNamespace(body=body)


async def test_half_a_character_in_a_request_is_replaced() -> None:
    decoded = await decoder_of(GetPerson)(request(rb'{"distinctId":"cut \ud83d"}'))
    assert decoded == GetPerson(distinct_id="cut \ufffd")


async def test_what_is_no_json_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequest):
        await decoder_of(GetPerson)(request(b"nonsense"))
