"""Seconds until `hogsend up` is ready, and the memory of each process."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.figures import Figure
from benchmarks.processes import environment, service_name
from tests.ports import free_port

MIB = 1024 * 1024


async def measure() -> list[Figure]:
    """Start the stack twice: in an empty directory, and again in the same one."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "home"
        first, _ = await _start(home)
        again, memory = await _start(home)
    return [
        Figure(
            "seconds from `hogsend up` to ready",
            f"{first:.1f} first, {again:.1f} again",
            details={"first": round(first, 2), "again": round(again, 2)},
        ),
        Figure(
            "memory, MiB (proportional set size)",
            ", ".join(f"{name} {size}" for name, size in memory.items()),
            details={name: float(size) for name, size in memory.items()},
        ),
    ]


async def _start(home: Path) -> tuple[float, dict[str, int]]:
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "up", "--json"),
        env=environment(
            HOGSEND_HOME=str(home), GATEWAY_PORT=str(free_port()), NATS_PORT=str(free_port())
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if process.stdout is None:
        raise RuntimeError("no output to read")
    summary = await process.stdout.readline()
    elapsed = time.perf_counter() - started
    json.loads(summary)
    memory: dict[str, int] = {}
    for child in psutil.Process(process.pid).children():
        name = service_name(child)
        family = [child, *child.children(recursive=True)]
        memory[name] = round(sum(member.memory_full_info().pss for member in family) / MIB)
    process.terminate()
    await process.wait()
    return elapsed, memory
