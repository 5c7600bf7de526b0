"""Values that follow a credential: current until it changes, never overtaken."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime

import pytest

from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import Unavailable
from hogsend.service.credential_watcher import (
    REVALIDATE_SECONDS,
    UNKNOWN_RETRY_SECONDS,
    CredentialWatcher,
)
from hogsend.service.tasks import cancel_all
from tests.virtual_time import on_virtual_time, settle
from tests.waiting import eventually


class Service:
    """A credentials service whose answers a test can hold back."""

    def __init__(self) -> None:
        self.value = "old"
        self.asked = 0
        self.down = False
        self.gate: asyncio.Event | None = None

    async def ask(self) -> str:
        self.asked += 1
        value = self.value
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise Unavailable("down")
        return value


class Clock:
    """Seconds, set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watcher(clock: Clock) -> CredentialWatcher:
    return CredentialWatcher("posthog", clock)


async def test_an_answer_is_kept_until_the_credential_changes(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.ask)
    assert [await watched.get() for _ in range(3)] == ["old"] * 3
    assert service.asked == 1
    service.value = "new"
    watcher.changed(None)
    assert await watched.get() == "new"
    assert service.asked == 2


async def test_an_answer_is_asked_for_again_after_thirty_seconds(
    watcher: CredentialWatcher, service: Service, clock: Clock
) -> None:
    watched = watcher.watch("value", service.ask)
    await watched.get()
    clock.now += REVALIDATE_SECONDS - 0.001
    await watched.get()
    assert service.asked == 1
    clock.now += 0.001
    await watched.get()
    assert service.asked == 2


async def test_callers_at_the_same_time_share_one_question(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.ask)
    assert await asyncio.gather(*(watched.get() for _ in range(5))) == ["old"] * 5
    assert service.asked == 1


async def test_an_answer_that_a_change_overtook_is_not_the_last_word(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.ask)
    service.gate = asyncio.Event()
    asking = asyncio.create_task(watched.get())
    await eventually(lambda: service.asked == 1)
    service.value = "new"
    watcher.changed(None)
    service.gate.set()
    assert await asking == "old"
    # Better than nothing.
    assert watched.held == "old"
    assert not watched.is_current
    assert await watched.get() == "new"


async def test_an_answer_that_was_got_in_another_way_can_be_overtaken_too(
    watcher: CredentialWatcher, service: Service
) -> None:
    other = Service()
    watched = watcher.watch("value", service.ask)
    assert await watched.ask(other.ask) == "old"
    assert watched.is_current
    other.gate = asyncio.Event()
    asking = asyncio.create_task(watched.ask(other.ask))
    await eventually(lambda: other.asked == 2)
    service.value = "new"
    watcher.changed(None)
    other.gate.set()
    assert await asking == "old"
    assert await watched.get() == "new"


async def test_an_overtaken_answer_that_comes_last_does_not_replace_the_newer_one(
    watcher: CredentialWatcher, service: Service
) -> None:
    told: list[str] = []
    watched = watcher.watch("value", service.ask, on_answer=told.append)
    slow = service.gate = asyncio.Event()
    overtaken = asyncio.create_task(watched.get())
    await eventually(lambda: service.asked == 1)
    service.value, service.gate = "new", None
    watcher.changed(None)
    assert await watched.get() == "new"
    slow.set()
    assert await overtaken == "old"
    assert watched.held == "new"
    assert told == ["new"]


async def test_a_question_asked_before_a_change_is_not_shared_after_it(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.ask)
    slow = service.gate = asyncio.Event()
    overtaken = asyncio.create_task(watched.get())
    await eventually(lambda: service.asked == 1)
    service.value, service.gate = "new", None
    watcher.changed(None)
    assert await watched.get() == "new"
    slow.set()
    await overtaken


async def test_a_reconnection_counts_as_a_change(
    watcher: CredentialWatcher, service: Service
) -> None:
    heard: list[object] = []
    watcher.on_change(heard.append)
    watched = watcher.watch("value", service.ask)
    await watched.get()
    await watcher.reconnected()
    assert heard == [None]
    assert not watched.is_current


async def test_what_is_wanted_at_once_is_asked_for_at_once(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.ask, at_once=True)
    service.value = "new"
    watcher.changed(None)
    await eventually(lambda: watched.held == "new")
    assert watched.is_current


async def test_a_value_is_asked_for_while_the_change_goes_on(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.ask, at_once=True)
    service.gate = asyncio.Event()
    watcher.changed(None)
    await eventually(lambda: service.asked == 1)
    assert watched.held is None
    service.gate.set()
    await eventually(lambda: watched.held == "old")


async def test_what_is_held_stays_while_credentials_cannot_be_asked(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.ask, at_once=True)
    await watched.get()
    service.down = True
    watcher.changed(None)
    with pytest.raises(Unavailable):
        await watched.get()
    assert (watched.held, watched.is_current) == ("old", False)


async def test_a_caller_that_gives_up_does_not_take_the_answer_from_others(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.ask)
    service.gate = asyncio.Event()
    one, other = asyncio.create_task(watched.get()), asyncio.create_task(watched.get())
    await eventually(lambda: service.asked == 1)
    one.cancel()
    service.gate.set()
    assert await other == "old"


@on_virtual_time
async def test_revalidation_asks_until_it_knows_and_then_every_thirty_seconds() -> None:
    service, watcher = Service(), CredentialWatcher("posthog")
    service.down = True
    watched = watcher.watch("value", service.ask, at_once=True)
    later = Service()
    watcher.watch("asked for when it is needed", later.ask)
    revalidating = asyncio.create_task(watcher.revalidate())
    await asyncio.sleep(3.25 * UNKNOWN_RETRY_SECONDS)
    assert service.asked == 4
    service.down = False
    await asyncio.sleep(UNKNOWN_RETRY_SECONDS)
    assert (watched.held, service.asked) == ("old", 5)
    await asyncio.sleep(2 * REVALIDATE_SECONDS)
    assert service.asked == 7
    assert later.asked == 0
    await cancel_all(revalidating)


@on_virtual_time
async def test_an_answer_that_is_none_to_work_with_is_asked_for_again_soon() -> None:
    service, watcher = Service(), CredentialWatcher("posthog")
    watched = watcher.watch(
        "value", service.ask, at_once=True, is_settled=lambda answer: answer == "new"
    )
    revalidating = asyncio.create_task(watcher.revalidate())
    await settle()
    assert not watched.is_settled
    service.value = "new"
    watched.outdate()
    await asyncio.sleep(UNKNOWN_RETRY_SECONDS)
    await settle()
    assert (watched.held, watched.is_settled) == ("new", True)
    await cancel_all(revalidating)


@on_virtual_time
async def test_only_what_is_not_the_last_word_is_asked_for_every_thirty_seconds() -> None:
    service, other, watcher = Service(), Service(), CredentialWatcher("posthog")
    watcher.watch("value", service.ask, at_once=True)
    fresh = watcher.watch("another", other.ask, at_once=True)
    revalidating = asyncio.create_task(watcher.revalidate())
    await asyncio.sleep(REVALIDATE_SECONDS - 1)
    await fresh.refresh()
    await asyncio.sleep(2)
    assert (service.asked, other.asked) == (2, 2)
    await cancel_all(revalidating)


@on_virtual_time
async def test_what_is_hurried_or_new_is_asked_for_at_once() -> None:
    service, new, watcher = Service(), Service(), CredentialWatcher("posthog")
    watched = watcher.watch("value", service.ask, at_once=True)
    revalidating = asyncio.create_task(watcher.revalidate())
    await settle()
    watched.outdate()
    watcher.hurry()
    await settle()
    assert service.asked == 2
    watcher.watch("new", new.ask, at_once=True)
    await settle()
    assert (service.asked, new.asked) == (2, 1)
    await cancel_all(revalidating)


async def test_what_an_earlier_process_knew_is_held_and_never_the_last_word(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.ask)
    watched.assume("known")
    assert (watched.held, watched.is_settled, watched.is_current) == ("known", True, False)
    assert await watched.get() == "old"
    watched.forget()
    assert (watched.held, watched.is_settled, watched.is_current) == (None, False, False)
    assert await watched.get() == "old"


def test_the_version_is_that_of_the_last_change_heard_of(watcher: CredentialWatcher) -> None:
    change = CredentialChanged(
        provider="posthog",
        version=7,
        change="updated",
        kinds=[],
        changed_kinds=[],
        scopes=[],
        expires_at=None,
        changed_at=datetime.now(UTC),
    )
    watcher.changed(change)
    watcher.changed(None)
    assert watcher.version == 7


@on_virtual_time
async def test_what_is_hurried_while_something_else_is_asked_for_is_asked_for_next() -> None:
    slow, service = Service(), Service()
    slow.gate, slow.down = asyncio.Event(), True
    watcher = CredentialWatcher("posthog")
    watched = watcher.watch("value", service.ask, at_once=True)
    watcher.watch("another", slow.ask, at_once=True, is_settled=lambda _answer: False)
    revalidating = asyncio.create_task(watcher.revalidate())
    await settle()
    assert (service.asked, slow.asked) == (1, 1)
    watched.outdate()
    watcher.hurry()
    slow.gate.set()
    await settle()
    assert watched.is_current
    await cancel_all(revalidating)


async def test_an_overtaken_answer_ends_no_newer_question(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.ask)
    slow = service.gate = asyncio.Event()
    overtaken = asyncio.create_task(watched.get())
    await eventually(lambda: service.asked == 1)
    watcher.changed(None)
    newer = service.gate = asyncio.Event()
    asking = [asyncio.create_task(watched.get())]
    await eventually(lambda: service.asked == 2)
    slow.set()
    await overtaken
    asking.append(asyncio.create_task(watched.get()))
    await asyncio.sleep(0)
    newer.set()
    await asyncio.gather(*asking)
    assert service.asked == 2


async def test_a_question_whose_callers_gave_up_fails_in_silence(
    watcher: CredentialWatcher, service: Service
) -> None:
    said: list[object] = []
    loop = asyncio.get_running_loop()
    watched = watcher.watch("value", service.ask)
    service.gate, service.down = asyncio.Event(), True
    asking = asyncio.create_task(watched.get())
    await eventually(lambda: service.asked == 1)
    await cancel_all(asking)
    loop.set_exception_handler(lambda _loop, context: said.append(context))
    try:
        service.gate.set()
        await settle()
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert said == []
