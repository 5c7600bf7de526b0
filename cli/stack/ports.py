"""Whether a port is free, and which process holds it when it is not."""

from __future__ import annotations

import socket

import psutil

from cli.errors import CommandError


def require_free(host: str, port: int, setting: str, what: str) -> None:
    """Check a port before anything is started on it.

    Raises:
        CommandError: it is taken, or this user may not bind it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except PermissionError as error:
            raise CommandError(
                f"port {port} for {what} needs privileges you do not have",
                f"set {setting} to a port above 1023",
            ) from error
        except OSError as error:
            owner = _owner(port)
            raise CommandError(
                f"port {port} for {what} is taken{f' by {owner}' if owner else ''}"
                if owner or "in use" in str(error)
                else f"cannot listen on {host}:{port} for {what} ({error.strerror})",
                f"stop that process, or set {setting} to another port"
                if owner or "in use" in str(error)
                else "give an address of this machine, for example 127.0.0.1",
            ) from error


def free_or_any(port: int) -> int:
    """Return `port` if it is free on 127.0.0.1, else any port that is."""
    for candidate in (port, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise CommandError("no port is free on 127.0.0.1", "stop some program and try again")


def _owner(port: int) -> str | None:
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
