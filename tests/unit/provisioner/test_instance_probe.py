"""Whether a Hogsend responds at a URL."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from services.provisioner.destination import instance_probe
from services.provisioner.destination.instance_probe import InstanceProbe
from tests.destinations import OTHER_HOST
from tests.posthog_recorder import Recorder
from tests.unit.provisioner.fakes import HEALTH, FakeInstance, http_to

OTHER = f"https://{OTHER_HOST}"


def probe(**instances: FakeInstance) -> InstanceProbe:
    hosts = {"other": OTHER_HOST, "elsewhere": "elsewhere.example"}
    return InstanceProbe(
        http_to(Recorder(), {hosts[name]: instance for name, instance in instances.items()})
    )


@pytest.mark.parametrize("base", [OTHER, f"{OTHER}/prefix", f"{OTHER}/prefix/"])
async def test_a_hogsend_is_recognized_by_its_health_document(base: str) -> None:
    other = FakeInstance()
    assert await probe(other=other).is_live(base)
    (request,) = other.requests
    assert request.method == "GET"
    assert request.url.path == f"{base.removeprefix(OTHER).rstrip('/')}/v1/health"
    assert not {"authorization", "cookie"} & set(request.headers)


@pytest.mark.parametrize(
    "instance",
    [
        FakeInstance(404),
        FakeInstance(500),
        FakeInstance(204, b""),
        FakeInstance(200, b"<html>parked</html>"),
        FakeInstance(200, b"[" * 100_000),
        FakeInstance(200, b"\xff"),
        FakeInstance(200, []),
        FakeInstance(200, {"status": "healthy"}),
        FakeInstance(200, {"status": 1, "components": {}}),
        FakeInstance(200, {**HEALTH, "more": "x" * 100_000}),
    ],
    ids=[
        *("404", "500", "empty", "html", "deep", "no_text", "array", "no_components"),
        *("odd_status", "too_large"),
    ],
)
async def test_a_host_with_another_response_is_no_hogsend(instance: FakeInstance) -> None:
    assert not await probe(other=instance).is_live(OTHER)
    assert len(instance.requests) == 1


async def test_a_redirect_is_not_followed() -> None:
    elsewhere = FakeInstance()
    other = FakeInstance(302, HEALTH, location="https://elsewhere.example/v1/health")
    assert not await probe(other=other, elsewhere=elsewhere).is_live(OTHER)
    assert elsewhere.requests == []


@pytest.mark.parametrize("base", ["https://gone.example", "https://a b", "http://[bad", ""])
async def test_a_host_that_cannot_be_reached_is_no_hogsend(base: str) -> None:
    assert not await probe().is_live(base)


async def test_each_instance_is_probed_once() -> None:
    other, failing = FakeInstance(), FakeInstance(500)
    under_test = probe(other=other, elsewhere=failing)
    for _ in range(3):
        assert await under_test.is_live(OTHER)
        assert not await under_test.is_live("https://elsewhere.example")
    assert (len(other.requests), len(failing.requests)) == (1, 1)


async def test_a_host_that_hangs_is_no_hogsend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_probe, "PROBE_SECONDS", 0.01)

    async def hang(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    http = httpx.AsyncClient(transport=httpx.MockTransport(hang))
    assert not await InstanceProbe(http).is_live(OTHER)
