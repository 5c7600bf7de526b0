"""The socket the gateway listens on, and how many connections it may have.

The socket is opened here and not by Granian, which would silently share a port that is taken
(`SO_REUSEPORT`), accept 128 connections at most, and not take a socket over from a supervisor.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
from collections.abc import Mapping

import structlog

from hogsend.contract.errors import CannotStart

log = structlog.get_logger(__name__)

BACKLOG = 4096
"""Connections that wait to be accepted; the kernel allows `net.core.somaxconn`, usually as many."""
BUFFER_BYTES = 128 * 1024
"""What the kernel keeps for a connection in each direction; twice as much at most, on Linux."""
PASSED_ON = "HOGSEND_LISTEN_FD"
"""Variable with the descriptor of the socket that `hogsend up` passes on."""
SYSTEMD_DESCRIPTOR = 3
"""Where systemd puts the first socket it passes on (`sd_listen_fds(3)`)."""
OWN_DESCRIPTORS = 256
"""Files for everything but connections of clients: NATS, the spool, logs, libraries."""
FEWEST_CONNECTIONS = 1024
"""With fewer, anybody stops a gateway by opening connections."""
WANTED_DESCRIPTORS = 1 << 17
"""As many as are asked for; a limit that is higher is left alone."""


def listening_socket(
    host: str, port: int, *, share: bool, unread_seconds: float, environment: Mapping[str, str]
) -> socket.socket:
    """Take the socket that a supervisor passes on, or else open one.

    Args:
        host: where to listen.
        port: the same.
        share: whether other processes may listen there, too; the kernel gives each its part.
        unread_seconds: a client that takes nothing of its answer for so long is cut off.
        environment: of this process, which says what was passed on.

    Raises:
        CannotStart: nothing can listen there.
    """
    listening = _passed_on(environment)
    if listening is None:
        listening = _bound(host, port, share=share)
        listening.listen(BACKLOG)
    _prepare(listening, unread_seconds)
    return listening


def port_for_workers(
    host: str, port: int, *, share: bool, environment: Mapping[str, str]
) -> socket.socket:
    """Take a port that several workers are to listen on, each by `join`.

    Args:
        host: where they listen.
        port: the same.
        share: whether other gateways may listen there, too.
        environment: of this process; what a supervisor passes on is taken instead.

    Raises:
        CannotStart: nothing can listen there.
    """
    if (listening := _passed_on(environment)) is not None:
        return listening
    taken = _bound(host, port, share=share)
    if sys.platform == "linux":
        # Bound before it may be shared, so that a port that is taken is refused. Never listened on,
        # so that it gets no connection; and no longer reusable, so that the port is this gateway's
        # even while no worker listens.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(share))
    else:
        taken.listen(BACKLOG)
    return taken


def join(taken: socket.socket, *, unread_seconds: float) -> socket.socket:
    """Listen on a port of `port_for_workers`; connections come from then on.

    Each worker has a socket of its own, and the kernel deals connections out to them. From one
    socket that all accept from, the first to wake takes every connection there is. And a socket
    ends with its worker: connections then go to the others, and none waits for a worker that
    starts. Workers accept from one nonetheless where a supervisor passes it on, and where the
    kernel does not deal out (Linux does).

    Raises:
        CannotStart: nothing can listen there.
    """
    listening = taken
    if not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        try:
            listening = socket.socket(taken.family, socket.SOCK_STREAM)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind(taken.getsockname())
            listening.listen(BACKLOG)
        except OSError as error:
            raise CannotStart(f"a worker cannot listen ({error.strerror})") from error
    _prepare(listening, unread_seconds)
    return listening


def _prepare(listening: socket.socket, unread_seconds: float) -> None:
    # Connections inherit all of it. Buffers that grow by themselves take megabytes each.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    # Linux counts a window that stays closed as unacknowledged.
    if sys.platform == "linux":
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(unread_seconds * 1000)
        )
    listening.setblocking(False)  # noqa: FBT003 - it has no name


def connection_limit(wanted: int) -> int:
    """Raise the limit for open files as far as it goes, and give how many connections that allows.

    Raises:
        CannotStart: too few for a gateway.
    """
    _raise_descriptors()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - OWN_DESCRIPTORS)
    if allowed < min(FEWEST_CONNECTIONS, wanted):
        raise CannotStart(
            f"this process may open only {soft} files, and every connection is one: allow at "
            f"least {FEWEST_CONNECTIONS + OWN_DESCRIPTORS} (`ulimit -n`, LimitNOFILE= of systemd, "
            "`ulimits` of Docker)"
        )
    if allowed < wanted:
        log.warning(
            "the limit for open files allows fewer connections than GATEWAY_MAX_CONNECTIONS",
            allowed=allowed,
            wanted=wanted,
        )
    return allowed


def _raise_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    reachable = WANTED_DESCRIPTORS if unlimited else min(hard, WANTED_DESCRIPTORS)
    while soft != resource.RLIM_INFINITY and soft < reachable:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
        except (ValueError, OSError):
            # macOS has a limit below the one that it names (setrlimit(2)).
            reachable //= 2
        else:
            return


def _passed_on(environment: Mapping[str, str]) -> socket.socket | None:
    """Take the socket that `hogsend up` or systemd passes on, if there is one.

    It outlives this process, so that connections wait while a gateway is replaced by the next.
    """
    if text := environment.get(PASSED_ON):
        descriptor = int(text) if text.isdecimal() else -1
    elif environment.get("LISTEN_FDS", "0") != "0" and environment.get("LISTEN_PID") == str(
        os.getpid()
    ):
        descriptor = SYSTEMD_DESCRIPTOR
    else:
        return None
    try:
        listening = socket.socket(fileno=descriptor)
        accepts = listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except (OSError, ValueError) as error:
        raise CannotStart(f"what was passed on is not a socket ({error})") from error
    if not accepts or listening.family not in {socket.AF_INET, socket.AF_INET6}:
        raise CannotStart("the socket that was passed on does not listen for TCP")
    return listening


def _bound(host: str, port: int, *, share: bool) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
    except OSError as error:
        raise CannotStart(
            f"cannot listen on {host}:{port} ({error.strerror}); set GATEWAY_HOST or "
            "GATEWAY_PORT, or GATEWAY_SHARE_PORT=true where another gateway listens there on "
            "purpose"
        ) from error
    return listening
