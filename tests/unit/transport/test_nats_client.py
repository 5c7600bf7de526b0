"""The client that goes on when an answer comes too late, and ends when it is cancelled."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client

from hogsend.transport import nats_client
from hogsend.transport.nats_client import NatsClient
from tests.waiting import PATIENCE_SECONDS, eventually


async def test_a_pong_that_nobody_waits_for_any_more_is_no_error_and_no_other_ones() -> None:
    client = NatsClient()
    loop = asyncio.get_running_loop()
    late, next_one = loop.create_future(), loop.create_future()
    late.cancel()
    client._pongs += [late, next_one]
    await client._process_pong()
    assert not next_one.done()
    await client._process_pong()
    assert next_one.done()


class Attempt:
    """A step of connecting that ends as it is cancelled, as `wait_for` of Python 3.11 makes it."""

    def __init__(self, outcome: Exception | None) -> None:
        self.times = 0
        self._outcome = outcome

    async def __call__(self, *_: object) -> None:
        self.times += 1
        try:
            await asyncio.sleep(PATIENCE_SECONDS)
        except asyncio.CancelledError:
            if self._outcome is not None:
                raise self._outcome from None


@pytest.mark.parametrize("step", ["_connect_to_server", "_process_connect_init"])
@pytest.mark.parametrize("outcome", [OSError("refused"), None])
async def test_connecting_ends_when_it_is_cancelled_as_an_attempt_ends(
    step: str, outcome: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Attempt(outcome)

    async def succeed(client: Client, *_: object) -> None:
        client._current_server = client._server_pool[0]

    for name in ("_connect_to_server", "_process_connect_init"):
        monkeypatch.setattr(Client, name, succeed)
    monkeypatch.setattr(Client, step, attempt)
    client = NatsClient()
    connecting = asyncio.create_task(
        client.connect("nats://127.0.0.1:1", max_reconnect_attempts=-1, reconnect_time_wait=0)
    )
    await eventually(lambda: attempt.times)
    connecting.cancel()
    await asyncio.wait({connecting}, timeout=PATIENCE_SECONDS)
    assert connecting.cancelled()
    assert attempt.times == 1


LINES = st.lists(
    st.one_of(st.binary(), st.from_regex(rb"[ -~]{1,80}:[ \t]?[ -~]*", fullmatch=True))
)


@given(LINES)
@example(
    [b"Nats-Msg-Id: 1", b"ce-type:\tdev", b": no name", b" a : b ", b"a b: c", b"\xfc: u", b""]
)
async def test_headers_are_what_nats_py_makes_of_them(lines: list[bytes]) -> None:
    raw = b"\r\n".join(lines)
    read = NatsClient()._parse_header_lines
    assert read(raw) == Client._parse_header_lines(raw)
    assert read(raw) == read(raw)


async def test_headers_of_a_message_are_read_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_raw: bytes) -> None:
        pytest.fail("nats-py has read them")

    monkeypatch.setattr(Client, "_parse_header_lines", slow)
    raw = b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n"
    assert await NatsClient()._process_headers(raw) == {"Nats-Msg-Id": "1"}


def test_no_name_of_any_length_is_remembered() -> None:
    remembered = nats_client._known_name.cache_info
    before = remembered().currsize
    NatsClient._parse_header_lines(b"x" * (nats_client._NAME_BYTES + 1) + b": 1")
    assert remembered().currsize == before
    assert remembered().maxsize is not None
