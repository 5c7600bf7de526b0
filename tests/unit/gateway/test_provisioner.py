"""Requests to the provisioner while it hangs, stops, or is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hogsend.contract.base import Empty
from hogsend.contract.errors import HogsendError, NotFound, Unavailable
from hogsend.contract.health import PROVISIONER_HEALTH
from hogsend.contract.provisioning import PROVISIONER_DIAGNOSE
from services.gateway import capabilities, provisioner
from tests.unit.gateway.fakes import FakeConnection
from tests.unit.gateway.test_console_connecting import HEALTHY
from tests.unit.gateway.test_measured import DIAGNOSIS
from tests.virtual_time import settle
from tests.waiting import eventually

HANGS = Unavailable("the provisioner service did not answer within 2 s")


class SlowProvisioner(FakeConnection):
    """Replies to health probes at once, and to a diagnosis when the test sets `reply`."""

    def __init__(self) -> None:
        super().__init__()
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.is_cancelled = False
        self.probes_to_fail = 0
        """How many further probes time out."""
        self.last_reply: Callable[[], None] | None = None
        """Replies to the diagnosis, as the last reply before the provisioner stops."""

    async def request(self, endpoint: Any, message: Any, **options: Any) -> Any:
        if endpoint is PROVISIONER_HEALTH and self.last_reply is not None:
            # The provisioner no longer replies to probes, but to the request in flight.
            send_reply, self.last_reply = self.last_reply, None
            send_reply()
            await settle()
            self.probes_to_fail = 2
        if endpoint is PROVISIONER_HEALTH and self.probes_to_fail:
            self.probes_to_fail -= 1
            raise HANGS
        if endpoint is not PROVISIONER_DIAGNOSE:
            return await super().request(endpoint, message, **options)
        try:
            return await self.reply
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise

    def probes(self) -> int:
        """Return the number of health probes."""
        return sum(request.subject == PROVISIONER_HEALTH.subject for request in self.sent)


@pytest.fixture
async def bus(monkeypatch: pytest.MonkeyPatch) -> SlowProvisioner:
    monkeypatch.setattr(provisioner, "WATCH_SECONDS", 0.001)
    return SlowProvisioner()


async def test_a_request_to_a_hanging_provisioner_is_abandoned(bus: SlowProvisioner) -> None:
    bus.reply_with(PROVISIONER_HEALTH, HANGS)
    with pytest.raises(Unavailable, match="did not answer within 2 s"):
        await provisioner.request(bus, PROVISIONER_DIAGNOSE, Empty())
    await eventually(lambda: bus.is_cancelled)


async def test_capabilities_of_a_hanging_provisioner_are_unknown(bus: SlowProvisioner) -> None:
    bus.reply_with(PROVISIONER_HEALTH, HANGS)
    report, diagnosis = await capabilities.query(
        bus, secret_missing=False, signatures_required=False
    )
    assert diagnosis is None
    assert {capability.name: capability.state for capability in report.capabilities}[
        "loopProvisioning"
    ] == "unknown"


async def test_a_request_continues_after_a_single_failed_probe(bus: SlowProvisioner) -> None:
    bus.probes_to_fail = 1
    bus.reply_with(PROVISIONER_HEALTH, HEALTHY)
    request = asyncio.create_task(provisioner.request(bus, PROVISIONER_DIAGNOSE, Empty()))
    await eventually(lambda: bus.probes() > 3)
    bus.reply.set_result(DIAGNOSIS)
    assert await request is DIAGNOSIS


@pytest.mark.parametrize("reply", [DIAGNOSIS, NotFound("nothing")])
async def test_a_request_waits_for_a_slow_provisioner_that_replies_to_probes(
    bus: SlowProvisioner, reply: Any
) -> None:
    bus.reply_with(PROVISIONER_HEALTH, HEALTHY)
    request = asyncio.create_task(provisioner.request(bus, PROVISIONER_DIAGNOSE, Empty()))
    await eventually(lambda: bus.probes() > 3)
    if isinstance(reply, HogsendError):
        bus.reply.set_exception(reply)
        with pytest.raises(NotFound):
            await request
        return
    bus.reply.set_result(reply)
    assert await request is reply


@pytest.mark.parametrize("reply", [DIAGNOSIS, NotFound("nothing")])
async def test_a_reply_that_a_stopping_provisioner_still_sends_is_returned(
    bus: SlowProvisioner, reply: Any
) -> None:
    if isinstance(reply, HogsendError):
        bus.last_reply = partial(bus.reply.set_exception, reply)
        with pytest.raises(NotFound):
            await provisioner.request(bus, PROVISIONER_DIAGNOSE, Empty())
        return
    bus.last_reply = partial(bus.reply.set_result, reply)
    assert await provisioner.request(bus, PROVISIONER_DIAGNOSE, Empty()) is reply
