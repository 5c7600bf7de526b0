"""Notices are sent signed and in order, and retried until they are too old (ADR 23)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import msgspec
from prometheus_client import REGISTRY
from standardwebhooks.webhooks import Webhook

from hogsend.posthog.signing import key_of
from hogsend.service.http import NOT_POSTHOG
from services.gateway.notices.notice import Notice, raised, resolved
from services.gateway.notices.outbox import Outbox, PendingNotice
from services.gateway.notices.sender import FIRST_RETRY_SECONDS, MAX_AGE_SECONDS, NoticeSender
from tests.ports import free_port
from tests.unit.gateway.notices import AT, PROBLEM, SECRET, URL, Receiver, opened, waiting
from tests.virtual_time import now, on_virtual_time


async def test_a_notice_is_signed_by_standard_webhooks(tmp_path: Path) -> None:
    receiver, outbox = Receiver(), opened(tmp_path)
    receiver.now = datetime.now(UTC).timestamp()
    notice = waiting()
    await outbox.add(notice)
    assert await receiver.sender(outbox).send_due() is None
    [request] = receiver.requests
    body = Webhook(SECRET).verify(request.content, dict(request.headers))
    assert msgspec.convert(body, Notice) == notice.notice
    assert request.headers["webhook-id"] == str(notice.id)
    assert b"hidden" not in request.content
    assert request.extensions.items() >= NOT_POSTHOG.items()
    outbox.close()
    assert opened(tmp_path).pending == []


def about(subject: str) -> PendingNotice:
    return PendingNotice(uuid4(), raised("destination.failing", subject, PROBLEM, AT), claimed=True)


def attempts(outcome: str) -> float:
    labels = {"kind": "dead_letters.waiting", "outcome": outcome}
    return REGISTRY.get_sample_value("hogsend_operator_notices_total", labels) or 0.0


async def test_attempts_are_counted_by_their_outcome(tmp_path: Path) -> None:
    outcomes = ("delivered", "retried", "given_up")
    before = [attempts(outcome) for outcome in outcomes]
    receiver, outbox = Receiver(*[httpx.Response(500)] * 2), opened(tmp_path)
    sender = receiver.sender(outbox)
    await outbox.add(waiting())
    await sender.send_due()
    receiver.now += MAX_AGE_SECONDS + 1
    await sender.send_due()
    await outbox.add(waiting())
    await sender.send_due()
    assert [attempts(outcome) - old for outcome, old in zip(outcomes, before, strict=True)] == [
        1,
        1,
        1,
    ]


@on_virtual_time
async def test_requests_to_a_receiver_are_spaced() -> None:
    receiver, outbox, times = Receiver(), Outbox(Path("/nowhere")), list[float]()
    handle = receiver.handle

    def record_time(request: httpx.Request) -> httpx.Response:
        times.append(now())
        return handle(request)

    receiver.handle = record_time  # type: ignore[method-assign]
    for subject in ("a", "b", "c"):
        await outbox.add(about(subject))
    await receiver.sender(outbox, spacing=1).send_due()
    assert times == [0, 1, 2]


@on_virtual_time
async def test_a_request_without_a_response_is_retried() -> None:
    async def silent(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    outbox = Outbox(Path("/nowhere"))
    await outbox.add(waiting())
    async with httpx.AsyncClient(transport=httpx.MockTransport(silent)) as http:
        sender = NoticeSender(outbox, http, url=URL, key=key_of(SECRET), now=lambda: 0.0)
        assert await sender.send_due() == FIRST_RETRY_SECONDS
    assert [pending.attempts for pending in outbox.pending] == [1]


async def test_the_next_attempt_is_at_the_earliest_due_time_of_all_notices(tmp_path: Path) -> None:
    slow = httpx.Response(503, headers={"retry-after": "100"})
    receiver, outbox = Receiver(slow, httpx.Response(503)), opened(tmp_path)
    for subject in ("a", "b"):
        await outbox.add(about(subject))
    assert await receiver.sender(outbox).send_due() == FIRST_RETRY_SECONDS


async def test_the_body_of_a_response_is_not_read(tmp_path: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError
        yield b""

    receiver, outbox = Receiver(httpx.Response(200, content=body())), opened(tmp_path)
    await outbox.add(waiting())
    assert await receiver.sender(outbox).send_due() is None
    outbox.close()


async def test_a_refused_notice_is_retried_under_its_id_with_growing_pauses(tmp_path: Path) -> None:
    failures: list[httpx.Response | Exception] = [
        httpx.ConnectError(f"no {URL}"),
        httpx.Response(302, headers={"location": "https://elsewhere.example.com"}),
        httpx.Response(503, headers={"retry-after": "100"}),
    ]
    receiver, outbox = Receiver(*failures), opened(tmp_path)
    sender = receiver.sender(outbox)
    await outbox.add(waiting())
    pauses = []
    while (pause := await sender.send_due()) is not None:
        pauses.append(pause)
        receiver.now += pause
    assert pauses == [5, 10, 100]
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


async def test_a_clock_that_is_set_back_does_not_delay_a_notice(tmp_path: Path) -> None:
    receiver, outbox = (
        Receiver(httpx.Response(503, headers={"retry-after": "3600"})),
        opened(tmp_path),
    )
    sender = receiver.sender(outbox)
    await outbox.add(waiting())
    assert await sender.send_due() == 3600
    receiver.now -= 24 * 3600
    assert await sender.send_due() is None
    assert len(receiver.requests) == 2


async def test_the_end_of_a_problem_is_not_sent_before_its_start(tmp_path: Path) -> None:
    receiver, outbox = Receiver(httpx.Response(503)), opened(tmp_path)
    sender = receiver.sender(outbox)
    await outbox.add(waiting())
    assert await sender.send_due() == 5
    over = resolved("dead_letters.waiting", "dead-letters", AT)
    await outbox.add(PendingNotice(uuid4(), over, claimed=True))
    other = raised("destination.failing", "d-1", PROBLEM, AT)
    await outbox.add(PendingNotice(uuid4(), other, claimed=True))
    assert await sender.send_due() == 5
    receiver.now += 5
    while await sender.send_due() is not None:
        pass
    notices = [msgspec.json.decode(request.content, type=Notice) for request in receiver.requests]
    assert [(notice.type, notice.data.state) for notice in notices] == [
        ("dead_letters.waiting", "raised"),
        ("destination.failing", "raised"),
        ("dead_letters.waiting", "raised"),
        ("dead_letters.waiting", "resolved"),
    ]


async def test_a_notice_survives_a_restart_and_is_abandoned_after_days(tmp_path: Path) -> None:
    receiver, outbox = Receiver(httpx.Response(500), httpx.Response(500)), opened(tmp_path)
    await outbox.add(waiting())
    await receiver.sender(outbox).send_due()
    outbox.close()
    again = opened(tmp_path)
    assert [pending.attempts for pending in again.pending] == [1]
    receiver.now += MAX_AGE_SECONDS + 1
    assert await receiver.sender(again).send_due() is None
    assert again.pending == []


async def test_an_unclaimed_notice_is_not_sent(tmp_path: Path) -> None:
    receiver, outbox = Receiver(), opened(tmp_path)
    await outbox.add(waiting(claimed=False))
    assert await receiver.sender(outbox).send_due() is None
    assert receiver.requests == []


async def test_the_receiver_in_the_documentation_accepts_signed_notices(
    tmp_path: Path,
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        [sys.executable, "docs/examples/operator_receiver.py"],
        env={**os.environ, "PORT": str(port), "OPERATOR_WEBHOOK_SECRET": SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as receiver:
        try:
            outbox = opened(tmp_path)
            await outbox.add(waiting())
            transport = httpx.AsyncHTTPTransport(retries=5)
            async with httpx.AsyncClient(transport=transport) as http:
                while outbox.pending:
                    sender = NoticeSender(outbox, http, url=url, key=key_of(SECRET), spacing=0)
                    for pending in outbox.pending:
                        pending.due_at = 0
                    await sender.send_due()
                refused = await http.post(url, content=b"{}")
            assert refused.status_code == 401
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == "dead_letters.waiting raised 3 wait.\n"
        finally:
            receiver.terminate()
