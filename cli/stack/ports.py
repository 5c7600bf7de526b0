"""Checks that a port is free, and finds the process that uses it."""

from __future__ import annotations

import socket

import psutil

from cli.errors import CommandError


def require_free(host: str, port: int, setting: str, user: str) -> None:
    """Check that a port is free, before a program is started on it.

    Args:
        host: IP address to listen on.
        port: the port.
        setting: setting or option that chooses the port.
        user: the program that will use it, for example "the gateway".

    Raises:
        CommandError: the port is in use, or this user may not listen on it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except PermissionError as error:
            raise CommandError(
                f"port {port} for {user} needs privileges you do not have",
                f"set {setting} to a port above 1023",
            ) from error
        except OSError as error:
            process = _listening_process(port)
            if process or "in use" in str(error):
                by = f" by {process}" if process else ""
                raise CommandError(
                    f"port {port} for {user} is in use{by}",
                    f"stop that process, or set {setting} to another port",
                ) from error
            raise CommandError(
                f"cannot listen on {host}:{port} for {user} ({error.strerror})",
                "set an IP address of this machine, for example 127.0.0.1",
            ) from error


def free_or_any(port: int) -> int:
    """Return `port` if it is free on 127.0.0.1, else any free port.

    Raises:
        CommandError: no port is free.
    """
    for candidate in (port, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            bound_port: int = probe.getsockname()[1]
            return bound_port
    raise CommandError("no port is free on 127.0.0.1", "stop other programs, then try again")


def _listening_process(port: int) -> str | None:
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        listening = connection.status == psutil.CONN_LISTEN
        if listening and connection.laddr[1:] == (port,) and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.Error:
                return f"process {connection.pid}"
    return None
