"""The socket that the gateway listens on, and the number of connections it may accept.

The socket is opened here, not by Granian. Granian would silently share a port that is in use
(`SO_REUSEPORT`), have a backlog of 128 connections only, and not accept a supervisor's socket.
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
"""Connections that wait to be accepted. The kernel caps it at `net.core.somaxconn`, often 4096."""
BUFFER_BYTES = 128 * 1024
"""Kernel buffer of a connection in each direction. Linux uses up to twice as much."""
INHERITED_SOCKET = "HOGSEND_LISTEN_FD"
"""Environment variable: descriptor of the socket that `hogsend up` passes to the gateway."""
SYSTEMD_DESCRIPTOR = 3
"""Descriptor of the first socket that systemd passes (`sd_listen_fds(3)`)."""
OWN_DESCRIPTORS = 256
"""Descriptors reserved for everything except clients: NATS, the spool, logs, libraries."""
MIN_CONNECTIONS = 1024
"""With a lower limit, a single client could occupy every connection."""
TARGET_DESCRIPTORS = 1 << 17
"""Limit for open files that is set if the system allows it. A higher limit is not changed."""


def listening_socket(
    host: str, port: int, *, share: bool, unread_seconds: float, environment: Mapping[str, str]
) -> socket.socket:
    """Return the socket that a supervisor passed to this process, or else open one.

    Args:
        host: address to listen on.
        port: port to listen on.
        share: whether other processes may listen on the same port. The kernel then distributes
            connections among them.
        unread_seconds: a client that reads nothing of its response for so long is disconnected.
        environment: environment of this process, which names a socket that was passed.

    Raises:
        CannotStart: the port cannot be listened on.
    """
    listening = _inherited(environment)
    if listening is None:
        listening = _bound(host, port, share=share)
        listening.listen(BACKLOG)
    _prepare(listening, unread_seconds)
    return listening


def port_for_workers(
    host: str, port: int, *, share: bool, environment: Mapping[str, str]
) -> socket.socket:
    """Reserve a port on which several workers then listen, each by `join`.

    Args:
        host: address on which they listen.
        port: port on which they listen.
        share: whether other gateways may listen on the same port.
        environment: environment of this process. A socket that a supervisor passed is used instead.

    Raises:
        CannotStart: the port cannot be listened on.
    """
    if (listening := _inherited(environment)) is not None:
        return listening
    reserved = _bound(host, port, share=share)
    if sys.platform == "linux":
        # SO_REUSEPORT is set only after `bind`, so that a port in use is refused. The socket never
        # listens, so it gets no connections. SO_REUSEADDR is cleared, so that no other gateway can
        # bind the port while no worker listens.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(share))
    else:
        reserved.listen(BACKLOG)
    return reserved


def join(reserved: socket.socket, *, unread_seconds: float) -> socket.socket:
    """Listen on a port that `port_for_workers` reserved. Connections arrive from now on.

    Each worker has its own socket, and the kernel distributes connections among the sockets. With
    one shared socket, the worker that wakes first would accept every pending connection. A worker's
    socket also ends with it: new connections go to the other workers instead of waiting for the
    restart. Workers share one socket only if a supervisor passed it, or if the kernel does not
    distribute connections (only Linux does).

    Raises:
        CannotStart: the port cannot be listened on.
    """
    listening = reserved
    if not reserved.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        try:
            listening = socket.socket(reserved.family, socket.SOCK_STREAM)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind(reserved.getsockname())
            listening.listen(BACKLOG)
        except OSError as error:
            raise CannotStart(f"a worker cannot listen ({error.strerror})") from error
    _prepare(listening, unread_seconds)
    return listening


def _prepare(listening: socket.socket, unread_seconds: float) -> None:
    # Connections inherit these options. Without a fixed size, the kernel lets each buffer grow to
    # megabytes.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    # On Linux this timeout also applies while the client's receive window is closed.
    if sys.platform == "linux":
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(unread_seconds * 1000)
        )
    listening.setblocking(False)  # noqa: FBT003 - the parameter is positional-only


def connection_limit(configured: int) -> int:
    """Raise the limit for open files if needed, and return how many connections it allows.

    Raises:
        CannotStart: the limit is too low for a gateway.
    """
    _raise_descriptor_limit()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    allowed = configured if unlimited else min(configured, soft - OWN_DESCRIPTORS)
    if allowed < min(MIN_CONNECTIONS, configured):
        raise CannotStart(
            f"this process may open only {soft} files, and every connection is one: allow at "
            f"least {MIN_CONNECTIONS + OWN_DESCRIPTORS} (`ulimit -n`, LimitNOFILE= of systemd, "
            "`ulimits` of Docker)"
        )
    if allowed < configured:
        log.warning(
            "the limit for open files allows fewer connections than GATEWAY_MAX_CONNECTIONS",
            allowed=allowed,
            configured=configured,
        )
    return allowed


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    target = TARGET_DESCRIPTORS if unlimited else min(hard, TARGET_DESCRIPTORS)
    while soft != resource.RLIM_INFINITY and soft < target:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        except (ValueError, OSError):
            # The real limit of macOS is below the hard limit that it reports (setrlimit(2)).
            target //= 2
        else:
            return


def _inherited(environment: Mapping[str, str]) -> socket.socket | None:
    """Return the socket that `hogsend up` or systemd passed to this process, or None.

    The supervisor keeps that socket open while one gateway replaces another, so connections wait
    in its backlog instead of being refused.
    """
    if text := environment.get(INHERITED_SOCKET):
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
        raise CannotStart(f"what the supervisor passed is not a socket ({error})") from error
    if not accepts or listening.family not in {socket.AF_INET, socket.AF_INET6}:
        raise CannotStart("the socket that the supervisor passed does not listen for TCP")
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
