"""Ports for the servers of tests: two workers, or two runs on one machine, never get the same."""

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

# Below the ports that the system hands out to clients.
FIRST, LAST = 20_000, 31_999


def free_port() -> int:
    """A port on 127.0.0.1 that is free, and this process's own until it ends."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of several such ports in a row."""
    while True:
        first = random.randrange(FIRST, LAST + 2 - count)  # noqa: S311 - not a secret
        if all(_take(port) for port in range(first, first + count)):
            return first


@contextmanager
def real_ports() -> Iterator[None]:
    """Those that `hogsend connect` and `hogsend demo` choose, for one test on this machine."""
    descriptor = _open("hogsend-callback-ports.lock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@cache
def _taken() -> set[int]:
    """Ports this process has reserved: its own locks do not keep it from locking again."""
    return set()


@cache
def _register() -> int:
    """File of which every process locks the bytes at the ports it uses; they end with it."""
    return _open("hogsend-test-ports")


def _open(name: str) -> int:
    file = Path(tempfile.gettempdir()) / name
    try:
        return os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        # For other people's runs, whatever the umask.
        os.fchmod(descriptor, 0o666)
        return descriptor


def _take(port: int) -> bool:
    return port not in _taken() and _reserve(port) and _can_be_bound(port)


def _reserve(port: int) -> bool:
    try:
        fcntl.lockf(_register(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _taken().add(port)
    return True


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        # What a connection that has ended leaves behind does not keep a server from it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
