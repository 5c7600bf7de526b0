"""The receiver of notices, and an outbox, for tests of the operator's webhook."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx

from hogsend.posthog.signing import key_of
from services.gateway.notices.notice import Problem, raised
from services.gateway.notices.outbox import Outbox, PendingNotice
from services.gateway.notices.sender import NoticeSender

SECRET = "whsec_" + "b3BlcmF0b3Igb2YgdGhpcyBpbnN0YW5jZQ=="
URL = "https://ops.example.com/hook?token=hidden"
PROBLEM = Problem("3 wait.", "Run it.")
AT = datetime(2026, 11, 26, tzinfo=UTC)


class Receiver:
    """Responds with `responses` in order, then with 204. Records the requests."""

    def __init__(self, *responses: httpx.Response | Exception) -> None:
        self.responses = list(responses)
        self.requests: list[httpx.Request] = []
        self.now = AT.timestamp()

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        response = self.responses.pop(0) if self.responses else httpx.Response(204)
        if isinstance(response, Exception):
            raise response
        return response

    def sender(self, outbox: Outbox, *, spacing: float = 0) -> NoticeSender:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.handle))
        return NoticeSender(
            outbox, http, url=URL, key=key_of(SECRET), now=lambda: self.now, spacing=spacing
        )


def waiting(*, claimed: bool = True) -> PendingNotice:
    return PendingNotice(
        uuid4(), raised("dead_letters.waiting", "dead-letters", PROBLEM, AT), claimed
    )


def opened(directory: Path) -> Outbox:
    outbox = Outbox(directory)
    assert outbox.open()
    return outbox


def notices_in(outbox: Outbox) -> list[tuple[str, str, bool]]:
    """Subject and state of the pending notices, and whether they are claimed."""
    return [
        (pending.notice.data.subject, pending.notice.data.state, pending.claimed)
        for pending in outbox.pending
    ]
