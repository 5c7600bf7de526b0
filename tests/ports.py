"""Reserves ports for test servers, so that no two workers or runs on a machine use the same one."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

# Below the ephemeral ports, which the system assigns to clients.
FIRST, LAST = 20_000, 31_999


def free_port() -> int:
    """Return a free port of 127.0.0.1, which is reserved until this process ends."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """Return the first of `count` consecutive free ports, reserved like `free_port`."""
    while True:
        first = random.randrange(FIRST, LAST + 2 - count)  # noqa: S311 - not a secret
        if all(_take(port) for port in range(first, first + count)):
            return first


@contextmanager
def real_ports() -> Iterator[None]:
    """Give the block exclusive use of the fixed ports of `hogsend connect` and `hogsend demo`."""
    descriptor = _open("hogsend-callback-ports.lock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@cache
def _own_ports() -> set[int]:
    """Ports that this process has reserved; file locks do not exclude their own process."""
    return set()


@cache
def _lock_file() -> int:
    """Open the lock file of all test processes.

    A process reserves a port by locking the byte at that offset. The system releases the locks when
    the process ends.
    """
    return _open("hogsend-test-ports")


def _open(name: str) -> int:
    file = Path(tempfile.gettempdir()) / name
    try:
        return os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        # Other users' runs lock it, too, whatever the umask of this one.
        os.fchmod(descriptor, 0o666)
        return descriptor


def _take(port: int) -> bool:
    return port not in _own_ports() and _reserve(port) and _is_bindable(port)


def _reserve(port: int) -> bool:
    try:
        fcntl.lockf(_lock_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _own_ports().add(port)
    return True


def _is_bindable(port: int) -> bool:
    with socket.socket() as probe:
        # Servers can bind a port on which closed connections are in TIME_WAIT.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
