"""Our services' HTTP clients: where they connect, and what they carry along."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import httpx
import pytest

from hogsend.service.http import MAX_CONNECTIONS, http_client
from hogsend.service.ssrf import AddressRefused, EgressPolicy
from tests.ports import free_port
from tests.waiting import eventually


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names lead where the test says; what is not there has no address."""
    names: dict[str, list[str]] = {}

    def getaddrinfo(host: str, port: int, *_args: Any, **_more: Any) -> list[Any]:
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in names[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


@pytest.mark.parametrize("host", ["inside.example", "127.0.0.1"])
async def test_nothing_is_sent_to_an_address_inside(
    host: str, looked_up: dict[str, list[str]]
) -> None:
    looked_up["inside.example"] = ["127.0.0.1", "10.0.0.1"]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        port = listening.getsockname()[1]
        async with http_client(EgressPolicy()) as http:
            with pytest.raises(AddressRefused, match="OUTBOUND_ALLOW"):
                await http.get(f"http://{host}:{port}/")
        with pytest.raises(BlockingIOError):
            listening.accept()


async def test_of_several_addresses_only_the_allowed_are_tried(
    looked_up: dict[str, list[str]],
) -> None:
    # The first would answer, and must not be asked; of the allowed ones the first is not there.
    looked_up["mixed.example"] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)) as forbidden,
        socket.create_server(("127.0.0.3", port)) as wanted,
    ):
        forbidden.settimeout(0)
        rule = EgressPolicy.of(("127.0.0.2", "127.0.0.3"))
        async with http_client(rule) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.get(f"http://mixed.example:{port}/", timeout=httpx.Timeout(5, read=0.2))
        assert wanted.accept()
        with pytest.raises(BlockingIOError):
            forbidden.accept()


async def test_a_name_without_an_address_cannot_be_reached(
    looked_up: dict[str, list[str]],
) -> None:
    async with http_client(EgressPolicy()) as http:
        with pytest.raises(httpx.ConnectError, match=r"nowhere\.example has no address"):
            await http.get("https://nowhere.example/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    asked: list[str] = []

    def redirect(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(status, headers={"location": "https://elsewhere.example/"})

    async with http_client(EgressPolicy(), {"all://": httpx.MockTransport(redirect)}) as http:
        answer = await http.get("https://posthog.example/", headers={"Authorization": "Bearer x"})
    assert answer.status_code == status
    assert asked == ["https://posthog.example/"]


async def test_no_cookie_is_kept() -> None:
    asked: list[httpx.Headers] = []

    def set_cookie(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers)
        return httpx.Response(200, headers={"set-cookie": "sessionid=x"})

    async with http_client(EgressPolicy(), {"all://": httpx.MockTransport(set_cookie)}) as http:
        for _ in range(2):
            await http.get("https://posthog.example/")
    assert len(asked) == 2
    assert not any("cookie" in headers for headers in asked)


async def test_requests_that_are_given_up_leave_room_for_others() -> None:
    connections = 0
    answers = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await answers.wait()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2 * MAX_CONNECTIONS) as server,
        http_client(EgressPolicy.of(("127.0.0.1",))) as http,
    ):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        # Some have a connection, and as many again wait for one.
        asking = [asyncio.create_task(http.get(url)) for _ in range(2 * MAX_CONNECTIONS)]
        await eventually(lambda: connections == MAX_CONNECTIONS)
        for task in asking[:MAX_CONNECTIONS]:
            task.cancel()
        # By now what these leave is handed to the others, which do not know it yet.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in asking[MAX_CONNECTIONS:]:
            task.cancel()
        await asyncio.wait(asking)
        answers.set()
        answered = await asyncio.gather(*(http.get(url) for _ in range(2 * MAX_CONNECTIONS)))
        assert {answer.status_code for answer in answered} == {204}
