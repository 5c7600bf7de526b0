"""Invalid messages on every subject and endpoint become dead letters or typed errors.

No service crashes or stops because of them.
"""

from __future__ import annotations

import json
import random
import secrets
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.errors import NoStreamResponseError
from nats.micro.request import ERROR_CODE_HEADER

from cli.stack.environment import SERVICE_SETTINGS
from hogsend.contract import errors
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.registry import channels, endpoints
from hogsend.contract.users import User
from hogsend.contract.webhooks import WEBHOOK_ACCEPTED_IN_ORDER
from tests.chaos.run import exceptions_in
from tests.running_stack import Up, up
from tests.waiting import eventually

MESSAGES_PER_SUBJECT = 40
LARGE = 900_000
REPLY_SECONDS = 60.0
"""Timeout of a reply: longer than any endpoint's deadline, so that a slow machine fails no test."""
CODES = {
    value.code
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, errors.HogsendError)
} - {errors.HogsendError.code}

INVALID_BODIES: tuple[bytes, ...] = (
    b"",
    b"{}",
    b"null",
    b"[]",
    b"0",
    b'"text"',
    b"{",
    b'{"event":',
    b"\xff\xfe\x00",
    b"[" * 50_000,
    b'{"specversion":"99","data":[]}',
    b'{"providerId":"' + b"x" * 5000 + b'"}',
    b'{"data":{"userId":"' + b"x" * LARGE + b'"}}',
    b'{"event":{"event":"x","distinct_id":"\\u0000"}}',
    b'{"event":{"event":"\\ud800","distinct_id":"u","timestamp":"0000-00-00"}}',
    b'{"id":1e400,"limit":-1,"offset":99999999999999999999}',
    b'{"limit":2147483648,"offset":9223372036854775807}',
)

NAMES = (
    *("event", "distinctId", "distinct_id", "properties", "data", "id", "type", "timestamp"),
    *("userId", "providerId", "payload", "people", "conditions", "key", "config", "url"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 2**65, 1.5, "", "\x00", "x" * 300, "posthog"),
    *([], {}, [[{}]], {"$set": 1}),
)


def invalid_body(chance: random.Random) -> bytes:
    """Return an entry of `INVALID_BODIES`, random bytes, or JSON with valid names and odd types."""
    kind = chance.randrange(3)
    if kind == 0:
        return chance.choice(INVALID_BODIES)
    if kind == 1:
        return chance.randbytes(chance.randrange(300))
    names = chance.sample(NAMES, chance.randrange(len(NAMES)))
    return json.dumps({name: chance.choice(VALUES) for name in names}).encode()


def headers(chance: random.Random) -> dict[str, str] | None:
    """Return no headers, or headers with invalid values."""
    if chance.random() < 0.3:
        return None
    values = ("", "x", "99", "not-a-time", "x" * 200, "../..", "%00")
    names = ("Nats-Msg-Id", "ce-id", "ce-time", "ce-specversion", "Hogsend-Destination")
    # Each message needs an id of its own: JetStream would drop a repeated id as a duplicate.
    return {name: chance.choice(values) for name in names[1:]} | {names[0]: str(chance.random())}


async def operator(stack: Up) -> Client:
    password = (stack.home / "secrets" / "nats-operator").read_text().strip()
    address = stack.nats_url.rpartition("@")[2]
    return await nats.connect(
        f"nats://operator:{password}@{address}", inbox_prefix=inbox_prefix(User.OPERATOR)
    )


async def test_an_invalid_message_is_a_dead_letter_or_a_typed_error_and_stops_no_service(
    tmp_path: Path,
) -> None:
    seed = secrets.randbelow(10**6)
    print(f"random seed {seed}")  # noqa: T201 - to repeat a failure
    chance = random.Random(seed)  # noqa: S311
    async with up(tmp_path / "home", tmp_path) as stack:
        before = {name: stack.child(name).pid for name in SERVICE_SETTINGS}
        client = await operator(stack)
        js = client.jetstream(timeout=REPLY_SECONDS)
        for channel in channels():
            subject = channel.subject.replace("*", "posthog").replace(">", "email.opened")
            if channel is WEBHOOK_ACCEPTED_IN_ORDER:
                # `posthog` is no number of a slot, so no stream has this subject.
                with pytest.raises(NoStreamResponseError):
                    await js.publish(subject, invalid_body(chance))
                continue
            for _ in range(MESSAGES_PER_SUBJECT):
                await js.publish(subject, invalid_body(chance), headers=headers(chance))
        await js.publish("hogsend.webhooks.nobody", b"{}", headers={"Nats-Msg-Id": "nobody"})
        # Every message was stored, or published as a dead letter with a reason.
        for stream in ("WEBHOOKS", "AUDIT"):
            await eventually(partial(is_empty, js, stream), 60)
        path = "/v1/admin/deadletters"
        for reason in ("malformed", "unknown_source"):
            response = await stack.http.get(path, params={"reason": reason}, headers=stack.admin)
            letters = response.json()["deadLetters"]
            assert {letter["reason"] for letter in letters} == {reason}

        # Requests come last, because one of the endpoints purges dead letters.
        replies: dict[str, set[str]] = {}
        # An operator may not call an endpoint that returns secrets.
        for endpoint in (each for each in endpoints() if not each.holds_secret):
            for _ in range(MESSAGES_PER_SUBJECT // 4):
                reply = await client.request(
                    endpoint.subject, invalid_body(chance), timeout=REPLY_SECONDS
                )
                code = (reply.headers or {}).get(ERROR_CODE_HEADER, "ok")
                replies.setdefault(endpoint.subject, set()).add(code)
        assert {code for codes in replies.values() for code in codes} <= CODES | {"ok"}, replies

        assert await stack.post("after-all-requests") == 200
        await eventually(stack.is_healthy, 60)
        assert {name: stack.child(name).pid for name in SERVICE_SETTINGS} == before
        await client.close()
        logs = (stack.home / "logs").glob("*.log")
        assert [line for log in logs for line in exceptions_in(log)] == []


async def is_empty(js: Any, stream: str) -> bool:
    return bool((await js.stream_info(stream)).state.messages == 0)
