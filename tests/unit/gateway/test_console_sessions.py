"""Console sessions: what the cookie permits, which keys get one, and when it expires."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from services.gateway import sessions
from services.gateway.body_budget import IN_MEMORY, SMALL_BYTES
from services.gateway.console import connect_cookie
from services.gateway.sessions import (
    HEADER,
    PLAIN,
    RENEWED_AFTER,
    SECONDS,
    SECURE,
    seal,
)
from tests.unit.gateway.fakes import (
    ADMIN_KEY,
    INGEST_KEY,
    READ_KEY,
    FakeGateway,
    bearer,
    fake_gateway,
)

SESSION = "/console/session"
READING = "/v1/admin/capabilities"
CHANGING = "/v1/admin/deadletters/purge"
OWN_PAGE = {"Origin": "http://test", HEADER: "1"}


def digest(key: str = ADMIN_KEY) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def cookie(key: str = ADMIN_KEY, *, age: float = 0, name: str = PLAIN) -> dict[str, str]:
    """Return a header with a session cookie that was issued `age` seconds ago."""
    return {"Cookie": f"{name}={seal(digest(key), int(time.time() - age))}"}


async def sign_in(
    gateway: FakeGateway, key: str = ADMIN_KEY, headers: dict[str, str] | None = None
) -> httpx.Response:
    return await gateway.http.post(
        SESSION, json={"key": key}, headers={**OWN_PAGE, **(headers or {})}
    )


async def change(gateway: FakeGateway, headers: dict[str, str]) -> httpx.Response:
    return await gateway.http.post(CHANGING, json={"all": True}, headers=headers)


@pytest.fixture(autouse=True)
def no_cookies(gateway: FakeGateway) -> Iterator[None]:
    """Delete the cookies after each test: all tests share the client."""
    yield
    gateway.http.cookies.clear()


@pytest.mark.parametrize(("key", "scope"), [(ADMIN_KEY, "full-admin"), (READ_KEY, "read")])
async def test_signing_in_sets_a_cookie_that_scripts_and_other_sites_cannot_use(
    gateway: FakeGateway, key: str, scope: str
) -> None:
    response = await sign_in(gateway, key)
    assert (response.status_code, response.json()) == (200, {"scope": scope})
    set_cookie = response.headers["set-cookie"]
    assert set_cookie.endswith("; Path=/; Max-Age=86400; HttpOnly; SameSite=Strict")
    assert key not in set_cookie
    assert response.headers["cache-control"] == "no-store"
    gateway.http.cookies.clear()
    session = {"Cookie": set_cookie.partition(";")[0]}
    assert (await gateway.http.get(SESSION, headers=session)).json() == {"scope": scope}
    assert (await gateway.http.get(READING, headers=session)).status_code == 200


async def test_over_https_the_cookie_is_for_https_and_this_host_only(gateway: FakeGateway) -> None:
    response = await sign_in(gateway, headers={"Origin": "https://test"})
    assert response.headers["set-cookie"].startswith(f"{SECURE}=")
    assert response.headers["set-cookie"].endswith("; Secure")
    session = cookie(name=SECURE, age=RENEWED_AFTER)
    renewed = (await gateway.http.get(SESSION, headers=session)).headers["set-cookie"]
    assert renewed.startswith(f"{SECURE}=")
    assert renewed.endswith("; Secure")


async def test_a_session_of_a_read_key_may_read_and_may_not_change_anything(
    gateway: FakeGateway,
) -> None:
    session = cookie(READ_KEY)
    assert (await gateway.http.get(READING, headers=session)).status_code == 200
    assert (await gateway.http.get("/v1/admin/audit", headers=session)).status_code == 403
    assert (await change(gateway, {**session, **OWN_PAGE})).status_code == 403
    assert all("purge" not in request.subject for request in gateway.bus.sent)


async def test_a_session_has_the_permissions_of_its_admin_key(gateway: FakeGateway) -> None:
    response = await change(gateway, {**cookie(), **OWN_PAGE})
    # The gateway accepted the request, but no service runs that could reply.
    assert response.status_code == 503


@pytest.mark.parametrize(
    "forged",
    [
        {},
        {"Origin": "http://test"},
        {HEADER: "1"},
        {**OWN_PAGE, "Origin": "http://test:8080"},
        {**OWN_PAGE, "Origin": "http://evil.example"},
        {**OWN_PAGE, "Origin": "null"},
        {**OWN_PAGE, "Origin": "http://["},
        {**OWN_PAGE, "Origin": "ftp://test"},
        {**OWN_PAGE, "Sec-Fetch-Site": "same-site"},
        {**OWN_PAGE, "Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_cookie_changes_something_only_from_a_page_of_the_console(
    gateway: FakeGateway, forged: dict[str, str]
) -> None:
    response = await change(gateway, {**cookie(), **forged})
    assert response.status_code == 403
    assert response.json()["error"].startswith("Forbidden: a session")
    assert gateway.bus.sent == []
    for method in ("POST", "DELETE"):
        response = await gateway.http.request(
            method, SESSION, json={"key": ADMIN_KEY}, headers=forged
        )
        assert response.status_code == 403
        assert "set-cookie" not in response.headers


async def test_a_page_of_another_port_cannot_read_with_the_cookie(gateway: FakeGateway) -> None:
    headers = {**cookie(), "Sec-Fetch-Site": "same-site"}
    assert (await gateway.http.get(READING, headers=headers)).status_code == 403


async def test_behind_a_proxy_that_changes_the_host_the_public_url_counts_as_own(
    gateway: FakeGateway,
) -> None:
    response = await change(gateway, {**cookie(), **OWN_PAGE, "Origin": "https://t.example.com"})
    assert response.status_code == 503


async def test_sessions_require_https_at_a_public_https_address(
    gateway: FakeGateway,
) -> None:
    public = {"Host": "t.example.com", "Origin": "http://t.example.com"}
    response = await sign_in(gateway, headers=public)
    assert response.status_code == 403
    assert "https://t.example.com" in response.json()["error"]
    assert "set-cookie" not in response.headers
    host = {"Host": "T.example.com"}
    plain, secure = cookie(), cookie(name=SECURE)
    assert (await gateway.http.get(SESSION, headers={**plain, **host})).status_code == 401
    assert (await gateway.http.get(SESSION, headers={**secure, **host})).status_code == 200
    forged = {**secure, **OWN_PAGE, **public}
    assert (await change(gateway, forged)).status_code == 403
    assert (await change(gateway, {**forged, "Origin": "https://t.example.com"})).status_code == 503


def test_a_session_does_not_require_https_at_a_public_http_address() -> None:
    public = ("t.example.com", "http://t.example.com")
    assert sessions.cookie_of({PLAIN: "value"}, *public) == (PLAIN, "value")


async def test_a_used_session_is_renewed(gateway: FakeGateway) -> None:
    fresh = await gateway.http.get(READING, headers=cookie(age=RENEWED_AFTER - 30))
    assert "set-cookie" not in fresh.headers
    used = await gateway.http.get(READING, headers=cookie(age=SECONDS - 30))
    assert used.status_code == 200
    value = used.headers["set-cookie"].partition(";")[0].partition("=")[2]
    issued = sessions.issued_at(value, digest())
    assert issued is not None
    assert not sessions.is_expired(issued, issued + SECONDS - 1)


@pytest.mark.parametrize("age", [SECONDS, -sessions.AHEAD - 60])
async def test_a_session_unused_for_a_day_or_issued_in_the_future_is_401(
    gateway: FakeGateway, age: float
) -> None:
    response = await gateway.http.get(READING, headers=cookie(age=age))
    assert (response.status_code, response.json()["error"]) == (401, "Unauthorized")


async def test_an_expired_session_does_not_count_as_a_wrong_key() -> None:
    async with fake_gateway(admin_failed_key_limit=1) as gateway:
        statuses = [
            (await gateway.http.get(READING, headers=cookie(age=SECONDS))).status_code
            for _ in range(4)
        ]
    assert statuses == [401] * 4


async def test_a_session_ends_when_its_key_is_replaced() -> None:
    replaced: dict[str, Any] = {"admin_api_key": "k-new", "admin_api_key_previous": ADMIN_KEY}
    async with fake_gateway(**replaced) as gateway:
        assert (await gateway.http.get(READING, headers=bearer())).status_code == 200
        assert (await gateway.http.get(READING, headers=cookie())).status_code == 401
        assert (await gateway.http.get(READING, headers=cookie("k-new"))).status_code == 200
        response = await sign_in(gateway)
        assert (response.status_code, response.json()["error"]) == (
            401,
            "This key was replaced: sign in with the current one",
        )
        assert "set-cookie" not in response.headers


async def test_a_key_that_only_reports_events_opens_no_session(gateway: FakeGateway) -> None:
    assert (await sign_in(gateway, INGEST_KEY)).status_code == 403
    session = cookie(INGEST_KEY)
    assert (await gateway.http.get(READING, headers=session)).status_code == 401


@pytest.mark.parametrize("key", ["wrong", "", "k-ädmin", "\U0001f600", "x" * 10_000])
async def test_an_unknown_key_opens_no_session(gateway: FakeGateway, key: str) -> None:
    response = await sign_in(gateway, key)
    assert response.status_code == 401
    assert "set-cookie" not in response.headers


async def test_a_slow_sign_in_reserves_no_memory_that_webhooks_wait_for() -> None:
    started, resume = asyncio.Semaphore(0), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b" "
        started.release()
        await resume.wait()
        yield b"{}"

    async with fake_gateway() as gateway, asyncio.TaskGroup() as signing_in:
        for _ in range(40):
            signing_in.create_task(gateway.http.post(SESSION, content=slow(), headers=OWN_PAGE))
        for _ in range(40):
            await started.acquire()
        ((sample,),) = (metric.samples for metric in IN_MEMORY.collect())
        assert sample.value == 40 * SMALL_BYTES
        resume.set()


async def test_a_sign_in_body_is_limited_to_the_size_of_small_bodies(gateway: FakeGateway) -> None:
    response = await sign_in(gateway, "x" * SMALL_BYTES)
    assert (response.status_code, response.json()) == (413, {"error": "Request Entity Too Large"})


async def test_a_key_with_a_lone_surrogate_is_401(gateway: FakeGateway) -> None:
    body = b'{"key": "\\ud800"}'
    assert (await gateway.http.post(SESSION, content=body, headers=OWN_PAGE)).status_code == 401


async def test_wrong_keys_and_forged_cookies_are_rate_limited_and_valid_ones_are_not() -> None:
    async with fake_gateway(admin_failed_key_limit=3) as gateway:
        guesses = [(await sign_in(gateway, f"k-{number}")).status_code for number in range(4)]
        assert guesses == [401, 401, 401, 429]
        assert (await sign_in(gateway)).status_code == 200
    async with fake_gateway(admin_failed_key_limit=3) as gateway:
        forged = [cookie(f"k-{number}") for number in range(4)]
        guesses = [
            (await gateway.http.get(READING, headers=headers)).status_code for headers in forged
        ]
        assert guesses == [401, 401, 401, 429]
        assert (await gateway.http.get(READING, headers=cookie())).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        *("", "1", "1.", "1.5.", "2.5.x", "1.-5.x", f"1.{'9' * 5000}.x"),
        *("1.٣.x", "1.².x", "1.5.é"),
    ],
)
async def test_a_malformed_cookie_is_401(gateway: FakeGateway, value: str) -> None:
    # As the server decodes headers, `²` is one character, a digit that `int` refuses.
    for encoding in ("utf-8", "latin-1"):
        headers = [(b"Cookie", f"{PLAIN}={value}".encode(encoding, "ignore"))]
        assert (await gateway.http.get(READING, headers=headers)).status_code == 401


async def test_a_key_in_the_request_takes_precedence_over_the_session(gateway: FakeGateway) -> None:
    headers = {**cookie(), **bearer("wrong")}
    assert (await gateway.http.get(READING, headers=headers)).status_code == 401


async def test_signing_out_deletes_every_cookie(gateway: FakeGateway) -> None:
    """A browser that signed in over http and over https has two session cookies."""
    response = await gateway.http.delete(SESSION, headers={**cookie(), **OWN_PAGE})
    assert response.status_code == 204
    deletions = response.headers.get_list("set-cookie")
    names = {PLAIN, SECURE, connect_cookie.PLAIN, connect_cookie.SECURE}
    assert {deletion.partition(";")[0] for deletion in deletions} == {f"{name}=" for name in names}
    assert all("; Path=/; Max-Age=0; HttpOnly" in deletion for deletion in deletions)


async def test_reporting_events_requires_a_key_and_not_a_session(gateway: FakeGateway) -> None:
    event = {"event": "signed_up", "userId": "u_42"}
    response = await gateway.http.post("/v1/events", json=event, headers={**cookie(), **OWN_PAGE})
    assert response.status_code == 401


async def test_cookies_are_refused_when_the_console_is_disabled() -> None:
    async with fake_gateway(console=False) as gateway:
        assert (await gateway.http.get(READING, headers=cookie())).status_code == 401
        assert (await sign_in(gateway)).status_code == 404


async def test_the_audit_trail_names_sessions(gateway: FakeGateway) -> None:
    await sign_in(gateway)
    await change(gateway, {**cookie(), **OWN_PAGE})
    entries = [message.body.decode() for message in gateway.bus.published.messages]
    assert len(entries) == 2
    assert all('"actor":"console:full-admin"' in entry for entry in entries)
    assert '"action":"console.post","resource":"session"' in entries[0]
    assert '"action":"deadletters.post"' in entries[1]
    assert ADMIN_KEY not in "".join(entries)
