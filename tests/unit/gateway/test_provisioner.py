"""What the provisioner is asked while it hangs, crashes, or takes its time."""

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
        self.given_up = False
        self.missing = 0
        """How many further probes time out."""
        self.last_reply: Callable[[], None] | None = None
        """Replies to the diagnosis, as the last reply before the provisioner stops."""

    async def request(self, endpoint: Any, message: Any, **options: Any) -> Any:
        if endpoint is PROVISIONER_HEALTH and self.last_reply is not None:
            # It no longer replies to probes, but to the request in flight.
            send_reply, self.last_reply = self.last_reply, None
            send_reply()
            await settle()
            self.missing = 2
        if endpoint is PROVISIONER_HEALTH and self.missing:
            self.missing -= 1
            raise HANGS
        if endpoint is not PROVISIONER_DIAGNOSE:
            return await super().request(endpoint, message, **options)
        try:
            return await self.reply
        except asyncio.CancelledError:
            self.given_up = True
            raise

    def looked(self) -> int:
        """How often it was asked whether it runs."""
        return sum(asked.subject == PROVISIONER_HEALTH.subject for asked in self.sent)


@pytest.fixture
async def bus(monkeypatch: pytest.MonkeyPatch) -> SlowProvisioner:
    monkeypatch.setattr(provisioner, "WATCH_SECONDS", 0.001)
    return SlowProvisioner()


async def test_one_that_hangs_is_not_waited_for(bus: SlowProvisioner) -> None:
    bus.reply_with(PROVISIONER_HEALTH, HANGS)
    with pytest.raises(Unavailable, match="did not answer within 2 s"):
        await provisioner.request(bus, PROVISIONER_DIAGNOSE, Empty())
    await eventually(lambda: bus.given_up)


async def test_one_that_hangs_leaves_what_it_knows_unknown(bus: SlowProvisioner) -> None:
    bus.reply_with(PROVISIONER_HEALTH, HANGS)
    found, diagnosis = await capabilities.query(
        bus, secret_missing=False, signatures_required=False
    )
    assert diagnosis is None
    assert {one.name: one.state for one in found.capabilities}["loopProvisioning"] == "unknown"


async def test_one_that_misses_a_deadline_is_asked_again(bus: SlowProvisioner) -> None:
    bus.missing = 1
    bus.reply_with(PROVISIONER_HEALTH, HEALTHY)
    asking = asyncio.create_task(provisioner.request(bus, PROVISIONER_DIAGNOSE, Empty()))
    await eventually(lambda: bus.looked() > 3)
    bus.reply.set_result(DIAGNOSIS)
    assert await asking is DIAGNOSIS


@pytest.mark.parametrize("reply", [DIAGNOSIS, NotFound("nothing")])
async def test_one_that_is_slow_and_runs_is_waited_for(bus: SlowProvisioner, reply: Any) -> None:
    bus.reply_with(PROVISIONER_HEALTH, HEALTHY)
    asking = asyncio.create_task(provisioner.request(bus, PROVISIONER_DIAGNOSE, Empty()))
    await eventually(lambda: bus.looked() > 3)
    if isinstance(reply, HogsendError):
        bus.reply.set_exception(reply)
        with pytest.raises(NotFound):
            await asking
        return
    bus.reply.set_result(reply)
    assert await asking is reply


@pytest.mark.parametrize("reply", [DIAGNOSIS, NotFound("nothing")])
async def test_the_last_answer_of_one_that_stops_counts(bus: SlowProvisioner, reply: Any) -> None:
    if isinstance(reply, HogsendError):
        bus.last_reply = partial(bus.reply.set_exception, reply)
        with pytest.raises(NotFound):
            await provisioner.request(bus, PROVISIONER_DIAGNOSE, Empty())
        return
    bus.last_reply = partial(bus.reply.set_result, reply)
    assert await provisioner.request(bus, PROVISIONER_DIAGNOSE, Empty()) is reply
