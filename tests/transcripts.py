"""Console transcripts as documents show them, run for real and compared with what they promise.

A line that begins with `$ ` is a command, with the lines that continue it; the others are what it
prints. `...` stands for any text, and alone on a line for any lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SETS_A_VARIABLE = re.compile(r"(export|set) ")
STEP_SECONDS = 45.0


@dataclass(frozen=True)
class Step:
    """One command, and what it prints."""

    command: str
    promised: list[str]

    def kept_by(self, printed: str) -> bool:
        """Whether what was printed so far has what is promised."""
        lines = (
            r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
            for line in self.promised
        )
        return re.match("".join(lines), printed) is not None


def steps(transcript: str) -> Iterator[Step]:
    """The commands of a transcript in order."""
    for block in re.split(r"^\$ ", transcript, flags=re.MULTILINE)[1:]:
        command, *rest = block.splitlines()
        while rest and (command.endswith("\\") or command.count("'") % 2):
            command += f"\n{rest.pop(0)}"
        yield Step(command, rest)


async def play(transcript: str, directory: Path, variables: Mapping[str, str]) -> None:
    """Run a transcript in `directory`, command by command.

    A command is repeated until it prints what it promises, since what it looks at may take a
    moment to arrive. One that goes on after that, like a subscriber, is stopped.
    """
    before = ""
    for step in steps(transcript):
        if SETS_A_VARIABLE.match(step.command):
            # The shell ends with each command, so the next one begins with this.
            before += f"{step.command}\n"
            continue
        run = _Run()
        try:
            async with asyncio.timeout(STEP_SECONDS):
                while not await run.keeps(step, before, directory, variables):
                    run = _Run()
        except TimeoutError:
            promised = "\n".join(step.promised)
            said = f"printed\n{run.printed}{run.complained}and not\n{promised}"
            raise AssertionError(f"$ {step.command}\n{said}") from None


@dataclass
class _Run:
    """One run of a command, and what it has printed so far."""

    printed: str = field(default="")
    complained: str = field(default="")

    async def keeps(
        self, step: Step, before: str, directory: Path, variables: Mapping[str, str]
    ) -> bool:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"{before}{step.command}"),
            cwd=directory,
            env=variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        listening = asyncio.create_task(self._listen(process))
        try:
            assert process.stdout is not None
            while line := (await process.stdout.readline()).decode():
                self.printed += line if line.endswith("\n") else f"{line}\n"
                if step.promised and step.kept_by(self.printed):
                    return True
            return await process.wait() == 0 and not step.promised
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            await process.wait()
            await listening

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := (await process.stderr.readline()).decode():
            self.complained += line
