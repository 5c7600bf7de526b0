"""Feature flags (contract 4.6)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import msgspec
import pytest

from hogsend.contract.errors import Unavailable
from hogsend.contract.flags import Flags, GetFlags
from hogsend.contract.json_text import MAX_DEPTH
from hogsend.contract.persons import Capture
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings.shared import PostHogSettings
from services.analytics.flags.reader import FlagReader
from services.analytics.project_key import ProjectKey
from services.analytics.stored_project import StoredProject
from tests.unit.analytics.fakes import FakeCredentials, FakeLink
from tests.virtual_time import on_virtual_time, settle

KEY = {"posthog_api_key": "phc_test", "posthog_host": "https://eu.i.posthog.com"}


def flag(value: bool | str = True, **changes: Any) -> dict[str, Any]:
    return {
        "enabled": bool(value),
        "variant": value if isinstance(value, str) else None,
        "reason": {"description": "Matched condition set 1"},
        "metadata": {"id": 7, "version": 3, "payload": None},
        **changes,
    }


class Evaluated:
    """A reader, and a PostHog that evaluates flags."""

    def __init__(self, flags: dict[str, Any], **posthog: str) -> None:
        self.response = httpx.Response(200, json={"flags": flags, "requestId": "r_1"})
        self.requests: list[httpx.Request] = []
        self.refusals: list[httpx.Response] = []
        """The first responses, in this order."""
        self.gate = asyncio.Event()
        """While it is cleared, no request is answered."""
        self.gate.set()
        self.link = FakeLink()
        FakeCredentials(self.link)
        stored = StoredProject(self.link, CredentialWatcher("posthog"))
        key = ProjectKey(PostHogSettings.model_validate(posthog), stored)
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._evaluate))
        self.reader = FlagReader(self.link, key, http)

    async def flags(self, **options: Any) -> Flags:
        """Evaluate for `u_1`, and let background tasks run."""
        flags = await self.reader.evaluate(GetFlags(distinct_id="u_1", **options))
        await settle()
        return flags

    def calls(self) -> list[Capture]:
        """The published `$feature_flag_called` events."""
        return [msgspec.json.decode(message.body, type=Capture) for message in self.link.published]

    async def _evaluate(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        await self.gate.wait()
        return self.refusals.pop(0) if self.refusals else self.response


@on_virtual_time
async def test_case_108_without_a_project_key_there_are_no_flags_and_no_request() -> None:
    evaluated = Evaluated({"beta": flag()})
    assert await evaluated.flags(keys=["beta"]) == Flags()
    assert evaluated.requests == []


@on_virtual_time
async def test_without_the_credentials_service_there_are_no_flags() -> None:
    evaluated = Evaluated({"beta": flag()})
    evaluated.link.replies.clear()
    assert await evaluated.flags() == Flags()


@on_virtual_time
async def test_flags_have_their_values_and_payloads() -> None:
    with_payload = {"id": 7, "version": 3, "payload": '{"size": 1}'}
    plain_text = {"id": 8, "version": 1, "payload": "{"}
    too_deep = {"id": 9, "version": 1, "payload": "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)}
    evaluated = Evaluated(
        {
            "beta": flag("blue", metadata=with_payload),
            "text": flag(metadata=plain_text),
            "deep": flag(metadata=too_deep),
            "off": flag(value=False),
            "broken": flag(failed=True),
        },
        **KEY,
    )
    flags = await evaluated.flags()
    assert flags.values == {"beta": "blue", "text": True, "deep": True, "off": False}
    assert flags.payloads == {"beta": {"size": 1}, "text": "{", "deep": too_deep["payload"]}
    assert evaluated.calls() == []


@on_virtual_time
async def test_the_request_has_the_key_and_the_known_properties() -> None:
    evaluated = Evaluated({}, **KEY)
    await evaluated.flags(keys=["beta"], groups={"company": "c_1"}, person_properties={"a": 1})
    (request,) = evaluated.requests
    assert str(request.url) == "https://eu.i.posthog.com/flags/?v=2"
    assert json.loads(request.content) == {
        "token": "phc_test",
        "distinct_id": "u_1",
        "groups": {"company": "c_1"},
        "person_properties": {"a": 1},
        "group_properties": {},
        "geoip_disable": True,
        "evaluation_runtime": "server",
        "flag_keys_to_evaluate": ["beta"],
    }


@on_virtual_time
async def test_a_flag_call_is_reported_once() -> None:
    evaluated = Evaluated({"beta": flag("blue"), "other": flag()}, **KEY)
    for _ in range(3):
        flags = await evaluated.flags(keys=["beta", "unknown"], groups={"company": "c_1"})
        assert flags.values == {"beta": "blue"}
    (call,) = evaluated.calls()
    assert (call.event, call.distinct_id) == ("$feature_flag_called", "u_1")
    assert call.groups == {"company": "c_1"}
    assert call.properties == {
        "$feature_flag": "beta",
        "$feature_flag_response": "blue",
        "$feature/beta": "blue",
        "$feature_flag_id": 7,
        "$feature_flag_version": 3,
        "$feature_flag_reason": "Matched condition set 1",
        "$feature_flag_request_id": "r_1",
        "locally_evaluated": False,
    }


@on_virtual_time
async def test_another_value_is_reported_again() -> None:
    evaluated = Evaluated({"beta": flag("blue")}, **KEY)
    await evaluated.flags(keys=["beta"])
    evaluated.response = httpx.Response(200, json={"flags": {"beta": flag("red")}})
    await evaluated.flags(keys=["beta"])
    assert [call.properties["$feature_flag_response"] for call in evaluated.calls()] == [
        "blue",
        "red",
    ]


@on_virtual_time
async def test_a_report_that_cannot_be_published_does_not_fail_the_evaluation() -> None:
    evaluated = Evaluated({"beta": flag()}, **KEY)
    evaluated.link.publish_error = Unavailable("NATS is not connected")
    assert (await evaluated.flags(keys=["beta"])).values == {"beta": True}


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(500),
        httpx.Response(401, json={}),
        httpx.Response(200, content=b"<html>"),
        httpx.Response(302, json={}),
    ],
)
@on_virtual_time
async def test_a_response_without_flags_is_returned_as_no_flags(
    response: httpx.Response,
) -> None:
    evaluated = Evaluated({}, **KEY)
    evaluated.response = response
    assert await evaluated.flags(keys=["beta"]) == Flags()


@pytest.mark.parametrize("status", [429, 503])
@on_virtual_time
async def test_posthog_is_not_called_before_its_retry_after(status: int) -> None:
    evaluated = Evaluated({"beta": flag()}, **KEY)
    response_with_flags = evaluated.response
    evaluated.response = httpx.Response(status, headers={"Retry-After": "30"})
    assert await evaluated.flags() == Flags()
    evaluated.response = response_with_flags
    await asyncio.sleep(29)
    assert await evaluated.flags() == Flags()
    assert len(evaluated.requests) == 1
    await asyncio.sleep(2)
    assert (await evaluated.flags()).values == {"beta": True}


@on_virtual_time
async def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    evaluated = Evaluated({"beta": flag()}, **KEY)
    evaluated.gate.clear()
    reads = [asyncio.create_task(evaluated.flags()) for _ in range(2)]
    await settle()
    # Both requests were sent before either was refused; the responses arrive in this order.
    evaluated.refusals = [
        httpx.Response(429, headers={"Retry-After": "60"}),
        httpx.Response(503, headers={"Retry-After": "1"}),
    ]
    evaluated.gate.set()
    assert await asyncio.gather(*reads) == [Flags(), Flags()]
    await asyncio.sleep(59)
    assert await evaluated.flags() == Flags()
    assert len(evaluated.requests) == 2
    await asyncio.sleep(2)
    assert (await evaluated.flags()).values == {"beta": True}


@on_virtual_time
async def test_without_retry_after_the_next_evaluation_calls_posthog() -> None:
    evaluated = Evaluated({"beta": flag()}, **KEY)
    response_with_flags = evaluated.response
    evaluated.response = httpx.Response(503)
    assert await evaluated.flags() == Flags()
    evaluated.response = response_with_flags
    assert (await evaluated.flags()).values == {"beta": True}
