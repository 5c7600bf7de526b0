"""A stand-in in somebody's own program leaves no thread that would abort it at its end."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest

from sandbox import server_threads
from sandbox.server_threads import wait_for_server_threads


def looks(*seen: Iterable[int]) -> tuple[list[set[int]], server_threads.Threads]:
    """What is seen at each look, the last one for ever."""
    left = [set(one) for one in seen]

    def look() -> set[int]:
        return left.pop(0) if len(left) > 1 else left[0]

    return left, look


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_threads, "POLL_SECONDS", 0)


async def test_threads_of_the_block_are_waited_for_and_no_others() -> None:
    left, look = looks({1}, {1, 2, 3}, {1, 3}, {1})
    async with wait_for_server_threads(look):
        pass
    assert left == [{1}]


async def test_one_that_stays_is_not_waited_for_without_end() -> None:
    _, look = looks({1}, {1, 2})
    async with wait_for_server_threads(look):
        pass


def test_threads_of_python_are_not_foreign() -> None:
    assert server_threads.foreign_threads().isdisjoint({threading.get_native_id()})
