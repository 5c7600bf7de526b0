"""Ctrl-C during a blocking step of a backup, and after it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from cli.backup.interruptible import interruptible


@pytest.fixture(autouse=True)
def restored_handler() -> Iterator[None]:
    """Restore the handler of Ctrl-C after each test."""
    previous = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, previous)


def test_the_handler_of_ctrl_c_is_replaced_only_during_the_step() -> None:
    def handler(*_: object) -> None:
        raise AssertionError("SIGINT reached the handler of the event loop")

    signal.signal(signal.SIGINT, handler)
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
