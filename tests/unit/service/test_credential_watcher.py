"""Values that follow a credential: current until it changes, never outdated."""

from __future__ import annotations

import asyncio
import gc

import pytest

from hogsend.contract.errors import Unavailable
from hogsend.service.credential_watcher import (
    REVALIDATE_SECONDS,
    UNUSABLE_RETRY_SECONDS,
    CredentialWatcher,
)
from hogsend.service.tasks import cancel_all
from tests.messages import credential_change
from tests.virtual_time import on_virtual_time, settle
from tests.waiting import eventually


class Service:
    """A credentials service whose replies wait for a gate."""

    def __init__(self) -> None:
        self.value = "old"
        self.requests = 0
        self.down = False
        self.gate: asyncio.Event | None = None

    async def fetch(self) -> str:
        self.requests += 1
        value = self.value
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise Unavailable("down")
        return value


class Clock:
    """A clock that a test sets."""

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


async def test_a_value_is_cached_until_the_credential_changes(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.fetch)
    assert [await watched.get() for _ in range(3)] == ["old"] * 3
    assert service.requests == 1
    service.value = "new"
    watcher.changed(None)
    assert await watched.get() == "new"
    assert service.requests == 2


async def test_a_value_is_fetched_again_after_thirty_seconds(
    watcher: CredentialWatcher, service: Service, clock: Clock
) -> None:
    watched = watcher.watch("value", service.fetch)
    await watched.get()
    clock.now += REVALIDATE_SECONDS - 0.001
    await watched.get()
    assert service.requests == 1
    clock.now += 0.001
    await watched.get()
    assert service.requests == 2


async def test_concurrent_callers_share_one_request(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.fetch)
    assert await asyncio.gather(*(watched.get() for _ in range(5))) == ["old"] * 5
    assert service.requests == 1


async def test_a_value_that_was_fetched_during_a_change_is_not_current(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.fetch)
    service.gate = asyncio.Event()
    fetching = asyncio.create_task(watched.get())
    await eventually(lambda: service.requests == 1)
    service.value = "new"
    watcher.changed(None)
    service.gate.set()
    assert await fetching == "old"
    # An outdated value is better than none.
    assert watched.value == "old"
    assert not watched.is_current
    assert await watched.get() == "new"


async def test_a_value_from_fetch_with_is_not_current_after_a_change_either(
    watcher: CredentialWatcher, service: Service
) -> None:
    other = Service()
    watched = watcher.watch("value", service.fetch)
    assert await watched.fetch_with(other.fetch) == "old"
    assert watched.is_current
    other.gate = asyncio.Event()
    fetching = asyncio.create_task(watched.fetch_with(other.fetch))
    await eventually(lambda: other.requests == 2)
    service.value = "new"
    watcher.changed(None)
    other.gate.set()
    assert await fetching == "old"
    assert await watched.get() == "new"


async def test_an_outdated_value_that_arrives_last_does_not_replace_the_newer_one(
    watcher: CredentialWatcher, service: Service
) -> None:
    values: list[str] = []
    watched = watcher.watch("value", service.fetch, on_value=values.append)
    slow = service.gate = asyncio.Event()
    outdated = asyncio.create_task(watched.get())
    await eventually(lambda: service.requests == 1)
    service.value, service.gate = "new", None
    watcher.changed(None)
    assert await watched.get() == "new"
    slow.set()
    assert await outdated == "old"
    assert watched.value == "new"
    assert values == ["new"]


async def test_a_request_from_before_a_change_is_not_shared_after_it(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.fetch)
    slow = service.gate = asyncio.Event()
    outdated = asyncio.create_task(watched.get())
    await eventually(lambda: service.requests == 1)
    service.value, service.gate = "new", None
    watcher.changed(None)
    assert await watched.get() == "new"
    slow.set()
    await outdated


async def test_a_reconnection_counts_as_a_change(
    watcher: CredentialWatcher, service: Service
) -> None:
    changes: list[object] = []
    watcher.on_change(changes.append)
    watched = watcher.watch("value", service.fetch)
    await watched.get()
    await watcher.reconnected()
    assert changes == [None]
    assert not watched.is_current


async def test_an_eager_value_is_fetched_at_each_change(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.fetch, eager=True)
    service.value = "new"
    watcher.changed(None)
    await eventually(lambda: watched.value == "new")
    assert watched.is_current


async def test_a_change_does_not_wait_for_an_eager_value(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.fetch, eager=True)
    service.gate = asyncio.Event()
    watcher.changed(None)
    await eventually(lambda: service.requests == 1)
    assert watched.value is None
    service.gate.set()
    await eventually(lambda: watched.value == "old")


async def test_a_value_stays_cached_while_credentials_cannot_be_reached(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.fetch, eager=True)
    await watched.get()
    service.down = True
    watcher.changed(None)
    with pytest.raises(Unavailable):
        await watched.get()
    assert (watched.value, watched.is_current) == ("old", False)


async def test_a_cancelled_caller_does_not_cancel_the_request_of_others(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.fetch)
    service.gate = asyncio.Event()
    one, other = asyncio.create_task(watched.get()), asyncio.create_task(watched.get())
    await eventually(lambda: service.requests == 1)
    one.cancel()
    service.gate.set()
    assert await other == "old"


@on_virtual_time
async def test_revalidation_retries_until_there_is_a_value() -> None:
    service, watcher = Service(), CredentialWatcher("posthog")
    service.down = True
    watched = watcher.watch("value", service.fetch, eager=True)
    later = Service()
    watcher.watch("not eager", later.fetch)
    revalidating = asyncio.create_task(watcher.revalidate())
    await asyncio.sleep(3.25 * UNUSABLE_RETRY_SECONDS)
    assert service.requests == 4
    service.down = False
    await asyncio.sleep(UNUSABLE_RETRY_SECONDS)
    assert (watched.value, service.requests) == ("old", 5)
    await asyncio.sleep(2 * REVALIDATE_SECONDS)
    assert service.requests == 7
    assert later.requests == 0
    await cancel_all(revalidating)


@on_virtual_time
async def test_a_value_that_is_not_usable_is_fetched_again_soon() -> None:
    service, watcher = Service(), CredentialWatcher("posthog")
    watched = watcher.watch(
        "value", service.fetch, eager=True, is_usable=lambda value: value == "new"
    )
    revalidating = asyncio.create_task(watcher.revalidate())
    await settle()
    assert not watched.is_usable
    service.value = "new"
    watched.invalidate()
    await asyncio.sleep(UNUSABLE_RETRY_SECONDS)
    await settle()
    assert (watched.value, watched.is_usable) == ("new", True)
    await cancel_all(revalidating)


@on_virtual_time
async def test_revalidation_fetches_only_values_that_are_not_current() -> None:
    service, other, watcher = Service(), Service(), CredentialWatcher("posthog")
    watcher.watch("value", service.fetch, eager=True)
    fresh = watcher.watch("another", other.fetch, eager=True)
    revalidating = asyncio.create_task(watcher.revalidate())
    await asyncio.sleep(REVALIDATE_SECONDS - 1)
    await fresh.refresh()
    await asyncio.sleep(2)
    assert (service.requests, other.requests) == (2, 2)
    await cancel_all(revalidating)


@on_virtual_time
async def test_revalidate_now_and_a_new_value_start_a_revalidation() -> None:
    service, new, watcher = Service(), Service(), CredentialWatcher("posthog")
    watched = watcher.watch("value", service.fetch, eager=True)
    revalidating = asyncio.create_task(watcher.revalidate())
    await settle()
    watched.invalidate()
    watcher.revalidate_now()
    await settle()
    assert service.requests == 2
    watcher.watch("new", new.fetch, eager=True)
    await settle()
    assert (service.requests, new.requests) == (2, 1)
    await cancel_all(revalidating)


async def test_a_preloaded_value_is_cached_and_not_current(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.fetch)
    watched.preload("cached")
    assert (watched.value, watched.is_usable, watched.is_current) == ("cached", True, False)
    assert await watched.get() == "old"
    watched.clear()
    assert (watched.value, watched.is_usable, watched.is_current) == (None, False, False)
    assert await watched.get() == "old"


def test_the_version_is_that_of_the_last_change(watcher: CredentialWatcher) -> None:
    watcher.changed(credential_change(7))
    watcher.changed(None)
    assert watcher.version == 7


@on_virtual_time
async def test_revalidate_now_during_a_revalidation_starts_another_one() -> None:
    slow, service = Service(), Service()
    slow.gate, slow.down = asyncio.Event(), True
    watcher = CredentialWatcher("posthog")
    watched = watcher.watch("value", service.fetch, eager=True)
    watcher.watch("another", slow.fetch, eager=True, is_usable=lambda _value: False)
    revalidating = asyncio.create_task(watcher.revalidate())
    await settle()
    assert (service.requests, slow.requests) == (1, 1)
    watched.invalidate()
    watcher.revalidate_now()
    slow.gate.set()
    await settle()
    assert watched.is_current
    await cancel_all(revalidating)


async def test_an_outdated_request_that_ends_does_not_forget_a_newer_one(
    watcher: CredentialWatcher, service: Service
) -> None:
    watched = watcher.watch("value", service.fetch)
    slow = service.gate = asyncio.Event()
    outdated = asyncio.create_task(watched.get())
    await eventually(lambda: service.requests == 1)
    watcher.changed(None)
    newer = service.gate = asyncio.Event()
    fetching = [asyncio.create_task(watched.get())]
    await eventually(lambda: service.requests == 2)
    slow.set()
    await outdated
    fetching.append(asyncio.create_task(watched.get()))
    await asyncio.sleep(0)
    newer.set()
    await asyncio.gather(*fetching)
    assert service.requests == 2


async def test_a_failed_request_whose_callers_were_cancelled_is_not_unhandled(
    watcher: CredentialWatcher, service: Service
) -> None:
    unhandled: list[object] = []
    loop = asyncio.get_running_loop()
    watched = watcher.watch("value", service.fetch)
    service.gate, service.down = asyncio.Event(), True
    fetching = asyncio.create_task(watched.get())
    await eventually(lambda: service.requests == 1)
    await cancel_all(fetching)
    loop.set_exception_handler(lambda _loop, context: unhandled.append(context))
    try:
        service.gate.set()
        await settle()
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert unhandled == []
