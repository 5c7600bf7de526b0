"""`wait_for_server_threads`: waits until the threads of a stopped server have ended."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest

from sandbox import server_threads
from sandbox.server_threads import wait_for_server_threads


def fake_threads(*polls: Iterable[int]) -> tuple[list[set[int]], server_threads.Threads]:
    """A function that returns the thread ids of each poll in turn, and then those of the last."""
    remaining = [set(ids) for ids in polls]

    def threads() -> set[int]:
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    return remaining, threads


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_threads, "POLL_SECONDS", 0)


async def test_the_block_ends_when_all_threads_started_in_it_have_ended() -> None:
    remaining, threads = fake_threads({1}, {1, 2, 3}, {1, 3}, {1})
    async with wait_for_server_threads(threads):
        pass
    assert remaining == [{1}]


async def test_the_wait_for_a_thread_that_does_not_end_is_limited() -> None:
    _, threads = fake_threads({1}, {1, 2})
    async with wait_for_server_threads(threads):
        pass


def test_a_thread_of_python_is_not_foreign() -> None:
    assert server_threads.foreign_threads().isdisjoint({threading.get_native_id()})
