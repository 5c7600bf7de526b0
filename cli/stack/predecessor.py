"""A PostgreSQL that an earlier, killed stack left on our data directory."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil

PATIENCE_SECONDS = 15.0
"""How long the old server may take to write what it still holds."""


def retire(data: Path) -> None:
    """Stop a server that still runs on `data`, and forget one that is long gone.

    Call it only while no other stack can use `data`. PostgreSQL would refuse to start beside an
    old one, and also when the process id it finds in `postmaster.pid` has gone to somebody else,
    as happens in containers, where the same few ids come again.

    Raises:
        OSError: the old server does not stop.
    """
    pid_file = data / "postmaster.pid"
    noted = _noted_pid(pid_file)
    if noted is None:
        return
    running = [one for one in psutil.process_iter(["name"]) if _runs_on(one, data)]
    if not running:
        pid_file.unlink(missing_ok=True)
        return
    for process in running:
        if process.pid == noted:
            process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(running, PATIENCE_SECONDS)
    if alive:
        raise OSError(f"an old PostgreSQL still runs on it as process {alive[0].pid}")


def _noted_pid(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _runs_on(process: psutil.Process, data: Path) -> bool:
    # The server and its workers all work inside the data directory.
    try:
        return process.name() == "postgres" and process.cwd() == str(data)
    except psutil.Error:
        return False
