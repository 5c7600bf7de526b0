"""Stops a PostgreSQL server that an earlier, killed stack left running."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil

STOP_SECONDS = 15.0
"""Time for the shutdown checkpoint of the stale server."""


def stop_stale_server(data: Path) -> None:
    """Stop a server that still runs on `data`; remove the PID file of one that no longer runs.

    Call it only while no other stack can use `data`. PostgreSQL refuses to start while the process
    id in `postmaster.pid` exists, even if another program has that id by now, which happens in
    containers because they reuse the same few ids.

    Raises:
        OSError: the stale server does not stop.
    """
    pid_file = data / "postmaster.pid"
    recorded = _recorded_pid(pid_file)
    if recorded is None:
        return
    running = [one for one in psutil.process_iter(["name"]) if _runs_on(one, data)]
    if not running:
        pid_file.unlink(missing_ok=True)
        return
    for process in running:
        if process.pid == recorded:
            process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(running, STOP_SECONDS)
    if alive:
        raise OSError(f"a stale PostgreSQL still runs on it as process {alive[0].pid}")


def _recorded_pid(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _runs_on(process: psutil.Process, data: Path) -> bool:
    # The server and its workers have the data directory as their working directory.
    try:
        return process.name() == "postgres" and process.cwd() == str(data)
    except psutil.Error:
        return False
