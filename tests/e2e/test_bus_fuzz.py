"""Rubbish on every subject and every request: a reason or a typed error, and nobody falls over."""

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

EACH = 40
LARGE = 900_000
ANSWER_SECONDS = 60.0
"""Longest wait for an answer: a machine that does more is slow, and no test fails for that."""
CODES = {
    value.code
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, errors.HogsendError)
} - {errors.HogsendError.code}

RUBBISH: tuple[bytes, ...] = (
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


def junk(chance: random.Random) -> bytes:
    """One of the above, or JSON of the right names with wrong values, or plain noise."""
    kind = chance.randrange(3)
    if kind == 0:
        return chance.choice(RUBBISH)
    if kind == 1:
        return chance.randbytes(chance.randrange(300))
    picked = chance.sample(NAMES, chance.randrange(len(NAMES)))
    return json.dumps({name: chance.choice(VALUES) for name in picked}).encode()


def headers(chance: random.Random) -> dict[str, str] | None:
    """Missing, wrong or nonsensical ones."""
    if chance.random() < 0.3:
        return None
    values = ("", "x", "99", "not-a-time", "x" * 200, "../..", "%00")
    names = ("Nats-Msg-Id", "ce-id", "ce-time", "ce-specversion", "Hogsend-Destination")
    # An id of its own, or JetStream takes it for a repeat and nobody reads it.
    return {name: chance.choice(values) for name in names[1:]} | {names[0]: str(chance.random())}


async def operator(stack: Up) -> Client:
    password = (stack.home / "secrets" / "nats-operator").read_text().strip()
    address = stack.nats_url.rpartition("@")[2]
    return await nats.connect(
        f"nats://operator:{password}@{address}", inbox_prefix=inbox_prefix(User.OPERATOR)
    )


async def test_rubbish_gets_a_reason_and_breaks_nothing(tmp_path: Path) -> None:
    seed = secrets.randbelow(10**6)
    print(f"random seed {seed}")  # noqa: T201 - to repeat it
    chance = random.Random(seed)  # noqa: S311
    async with up(tmp_path / "home", tmp_path) as stack:
        before = {name: stack.child(name).pid for name in SERVICE_SETTINGS}
        client = await operator(stack)
        js = client.jetstream(timeout=ANSWER_SECONDS)
        # Everything but what only the credentials service may say, which nobody reads from a queue.
        for channel in channels():
            subject = channel.subject.replace("*", "posthog").replace(">", "email.opened")
            if channel is WEBHOOK_ACCEPTED_IN_ORDER:
                # That is no slot, and nobody would consume it.
                with pytest.raises(NoStreamResponseError):
                    await js.publish(subject, junk(chance))
                continue
            for _ in range(EACH):
                await js.publish(subject, junk(chance), headers=headers(chance))
        await js.publish("hogsend.webhooks.nobody", b"{}", headers={"Nats-Msg-Id": "nobody"})
        # Nothing is left in a queue: it was stored, or set aside with a reason.
        for stream in ("WEBHOOKS", "AUDIT"):
            await eventually(partial(is_empty, js, stream), 60)
        path = "/v1/admin/deadletters"
        for reason in ("malformed", "unknown_source"):
            found = await stack.http.get(path, params={"reason": reason}, headers=stack.admin)
            letters = found.json()["deadLetters"]
            assert {letter["reason"] for letter in letters} == {reason}

        # Last, for among them is the one that purges dead letters.
        replies: dict[str, set[str]] = {}
        # An operator asks for no secret.
        for endpoint in (one for one in endpoints() if not one.holds_secret):
            for _ in range(EACH // 4):
                answer = await client.request(
                    endpoint.subject, junk(chance), timeout=ANSWER_SECONDS
                )
                code = (answer.headers or {}).get(ERROR_CODE_HEADER, "ok")
                replies.setdefault(endpoint.subject, set()).add(code)
        assert {code for codes in replies.values() for code in codes} <= CODES | {"ok"}, replies

        assert await stack.post("after-it-all") == 200
        await eventually(stack.is_healthy, 60)
        assert {name: stack.child(name).pid for name in SERVICE_SETTINGS} == before
        await client.close()
        logs = (stack.home / "logs").glob("*.log")
        assert [line for log in logs for line in exceptions_in(log)] == []


async def is_empty(js: Any, stream: str) -> bool:
    return bool((await js.stream_info(stream)).state.messages == 0)
