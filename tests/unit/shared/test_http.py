"""The HTTP client of the services: where it connects, redirects, cookies and cancelled requests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import httpx
import pytest

from hogsend.service.http import MAX_CONNECTIONS, http_client
from hogsend.service.metrics import POSTHOG_REQUESTS
from hogsend.service.ssrf import AddressRefused, EgressPolicy
from tests.ports import free_port
from tests.waiting import eventually


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The addresses that each name resolves to. Other names do not resolve."""
    records: dict[str, list[str]] = {}

    def getaddrinfo(host: str, port: int, *_args: Any, **_options: Any) -> list[Any]:
        if host not in records:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in records[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return records


@pytest.mark.parametrize("host", ["inside.example", "127.0.0.1"])
async def test_the_client_does_not_connect_to_an_internal_address(
    host: str, dns: dict[str, list[str]]
) -> None:
    dns["inside.example"] = ["127.0.0.1", "10.0.0.1"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        port = listener.getsockname()[1]
        async with http_client(EgressPolicy()) as http:
            with pytest.raises(AddressRefused, match="OUTBOUND_ALLOW"):
                await http.get(f"http://{host}:{port}/")
        with pytest.raises(BlockingIOError):
            listener.accept()


async def test_the_client_tries_only_the_allowed_addresses_of_a_name(
    dns: dict[str, list[str]],
) -> None:
    # The first address accepts connections but is not allowed; the second is allowed but refuses.
    dns["mixed.example"] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)) as forbidden,
        socket.create_server(("127.0.0.3", port)) as allowed,
    ):
        forbidden.settimeout(0)
        policy = EgressPolicy.of(("127.0.0.2", "127.0.0.3"))
        async with http_client(policy) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.get(f"http://mixed.example:{port}/", timeout=httpx.Timeout(5, read=0.2))
        assert allowed.accept()
        with pytest.raises(BlockingIOError):
            forbidden.accept()


async def test_a_name_without_an_address_raises_a_connect_error(
    dns: dict[str, list[str]],
) -> None:
    async with http_client(EgressPolicy()) as http:
        with pytest.raises(httpx.ConnectError, match=r"nowhere\.example has no address"):
            await http.get("https://nowhere.example/")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    requested: list[str] = []

    def redirect(request: httpx.Request) -> httpx.Response:
        requested.append(str(request.url))
        return httpx.Response(status, headers={"location": "https://elsewhere.example/"})

    async with http_client(EgressPolicy(), {"all://": httpx.MockTransport(redirect)}) as http:
        response = await http.get("https://posthog.example/", headers={"Authorization": "Bearer x"})
    assert response.status_code == status
    assert requested == ["https://posthog.example/"]


async def test_no_cookie_is_kept() -> None:
    received: list[httpx.Headers] = []

    def set_cookie(request: httpx.Request) -> httpx.Response:
        received.append(request.headers)
        return httpx.Response(200, headers={"set-cookie": "sessionid=x"})

    async with http_client(EgressPolicy(), {"all://": httpx.MockTransport(set_cookie)}) as http:
        for _ in range(2):
            await http.get("https://posthog.example/")
    assert len(received) == 2
    assert not any("cookie" in headers for headers in received)


async def test_requests_to_posthog_are_counted_by_area_and_outcome(
    dns: dict[str, list[str]],
) -> None:
    def counts() -> list[float]:
        outcomes = [("capture", "204"), ("capture", "error")]
        return [POSTHOG_REQUESTS.labels(*outcome)._value.get() for outcome in outcomes]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    before = counts()
    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as server,
        http_client(EgressPolicy.of(("127.0.0.1",))) as http,
    ):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await http.get(f"{url}/batch/")
        # The server of an operator, or a path of no area.
        await http.get(f"{url}/batch/", extensions={"hogsend.posthog": False})
        await http.get(f"{url}/elsewhere/")
        with pytest.raises(httpx.ConnectError):
            await http.get("https://nowhere.example/batch/")
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [1, 1]


async def test_cancelled_requests_release_their_connections() -> None:
    connections = 0
    may_respond = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await may_respond.wait()
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2 * MAX_CONNECTIONS) as server,
        http_client(EgressPolicy.of(("127.0.0.1",))) as http,
    ):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        # One half of the requests has a connection; the other half waits for one.
        requests = [asyncio.create_task(http.get(url)) for _ in range(2 * MAX_CONNECTIONS)]
        await eventually(lambda: connections == MAX_CONNECTIONS)
        for task in requests[:MAX_CONNECTIONS]:
            task.cancel()
        # Let the pool assign the released connections to waiting requests, which do not resume yet.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in requests[MAX_CONNECTIONS:]:
            task.cancel()
        await asyncio.wait(requests)
        may_respond.set()
        responses = await asyncio.gather(*(http.get(url) for _ in range(2 * MAX_CONNECTIONS)))
        assert {response.status_code for response in responses} == {204}
