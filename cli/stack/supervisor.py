"""Starts processes, restarts them if they end, and stops them in reverse order."""

from __future__ import annotations

import asyncio
import ctypes
import os
import pwd
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hogsend.service.signal_names import signal_name

STOP_SECONDS = 12.0
"""Time for a process to stop before it is killed. Services drain within 10 seconds."""
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0
STABLE_SECONDS = 10.0
"""Run time after which the delay of a restart is reset to the first one."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Program:
    """A process to keep running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    directory: Path | None = None
    sockets: Sequence[socket.socket] = ()
    """Sockets that the program inherits. They stay open while it restarts, so connections wait."""
    restart_note: str = ""
    """Data that a restart loses, and what to do then; empty if it loses none."""


Report = Callable[[str, str], None]
"""Called with a program's name and what happened to it."""


class Supervisor:
    """Keeps programs running until `stop`."""

    def __init__(self, logs: Path, report: Report) -> None:
        """Write each program's output to `logs/<name>.log`, and call `report` when one ends."""
        self._logs = logs
        self._report = report
        self._running: dict[str, tuple[Program, asyncio.subprocess.Process]] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self.failures: Counter[str] = Counter()
        """Number of times that each program ended unexpectedly or could not be started."""

    async def start(self, program: Program) -> None:
        """Start a program, and restart it whenever it ends."""
        await self._spawn(program)
        self._watchers[program.name] = asyncio.create_task(self._watch(program))

    def pid(self, name: str) -> int:
        """Return the current process id of a program."""
        return self._running[name][1].pid

    def log_file(self, name: str) -> Path:
        """Return the file with a program's output."""
        return self._logs / f"{name}.log"

    def exited(self, name: str) -> bool:
        """Whether a program is not running now."""
        return self._running[name][1].returncode is not None

    async def stop(self) -> None:
        """Stop every program in reverse order; kill those that do not stop in time."""
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)
        for program, process in reversed(list(self._running.values())):
            if process.returncode is None:
                process.send_signal(program.stop_signal)
                try:
                    async with asyncio.timeout(STOP_SECONDS):
                        await process.wait()
                except TimeoutError:
                    self._report(program.name, "did not stop in time and was killed")
                    # Each program leads a process group, so this kills its children too.
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
        self._running.clear()

    async def _watch(self, program: Program) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            started = time.monotonic()
            code = await self._running[program.name][1].wait()
            if time.monotonic() - started > STABLE_SECONDS:
                delay = FIRST_DELAY_SECONDS
            self.failures[program.name] += 1
            event = f"{_describe_exit(code)}; restarting"
            note = f". {program.restart_note}" if program.restart_note else ""
            self._report(program.name, f"{event}{note}")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)
            try:
                await self._spawn(program)
            except OSError as error:
                # For example, its directory was deleted or the process limit is reached: retry.
                self.failures[program.name] += 1
                self._report(program.name, f"cannot be started ({error})")

    async def _spawn(self, program: Program) -> None:
        with self.log_file(program.name).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(program.environment),
                cwd=program.directory,
                pass_fds=[inherited.fileno() for inherited in program.sockets],
                user=program.user,
                # Setting only the user would keep root's groups.
                group=pwd.getpwnam(program.user).pw_gid if program.user else None,
                extra_groups=[] if program.user else None,
                # In its own session, so that Ctrl-C reaches only the supervisor, which then stops
                # the programs in order.
                start_new_session=True,
                preexec_fn=_die_with_parent(program.stop_signal, os.getpid()),
            )
        self._running[program.name] = (program, process)


def _describe_exit(code: int) -> str:
    if code < 0:
        return f"was killed by {signal_name(-code)}"
    return f"exited with code {code}"


def _die_with_parent(stop_signal: signal.Signals, parent: int) -> Callable[[], None] | None:
    """Make the kernel stop a child when its parent dies; Linux only."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def arm() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(stop_signal))
        if os.getppid() != parent:
            os.kill(os.getpid(), stop_signal)

    return arm
