"""Runs the console transcripts in documents, and compares their output.

A line that starts with `$ ` is a command, which may continue on the following lines. The other
lines are its expected output. `...` matches any text, and on a line of its own any number of lines.
Two spaces or more match any number of spaces and tabs.
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
    """One command and its expected output."""

    command: str
    expected: list[str]

    def matches(self, output: str) -> bool:
        """Whether `output` starts with the expected lines."""
        lines = (
            r"(?:.*\n)*?" if line == "..." else f"{_pattern(line)}\n" for line in self.expected
        )
        return re.match("".join(lines), output) is not None


def _pattern(line: str) -> str:
    any_text = re.escape(line).replace(r"\.\.\.", ".*")
    # Columns are separated by spaces on a terminal, and by tabs in the pipe of a test.
    return re.sub(r"(\\ ){2,}", r"\\s+", any_text)


def steps(transcript: str) -> Iterator[Step]:
    """Parse a transcript into its commands, in order."""
    for block in re.split(r"^\$ ", transcript, flags=re.MULTILINE)[1:]:
        command, *lines = block.splitlines()
        while lines and (command.endswith("\\") or command.count("'") % 2):
            command += f"\n{lines.pop(0)}"
        yield Step(command, lines)


async def play(transcript: str, directory: Path, variables: Mapping[str, str]) -> None:
    """Run a transcript in `directory`, command by command.

    A command is repeated until it prints its expected output, because an effect of an earlier one
    may take a moment to show. A command that keeps running after that, like a subscriber, is
    stopped.

    Raises:
        AssertionError: a command did not print its expected output within `STEP_SECONDS`.
    """
    exports = ""
    for step in steps(transcript):
        if SETS_A_VARIABLE.match(step.command):
            # Each command runs in a shell of its own, which must set the variables first.
            exports += f"{step.command}\n"
            continue
        run = _Run()
        try:
            async with asyncio.timeout(STEP_SECONDS):
                while not await run.succeeds(step, exports, directory, variables):
                    run = _Run()
        except TimeoutError:
            expected = "\n".join(step.expected)
            difference = f"printed\n{run.stdout}{run.stderr}and not\n{expected}"
            raise AssertionError(f"$ {step.command}\n{difference}") from None


@dataclass
class _Run:
    """One run of a command, with its output so far."""

    stdout: str = field(default="")
    stderr: str = field(default="")

    async def succeeds(
        self, step: Step, exports: str, directory: Path, variables: Mapping[str, str]
    ) -> bool:
        """Run the command until it has printed the expected output or ended."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"{exports}{step.command}"),
            cwd=directory,
            env=variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        reading = asyncio.create_task(self._read_stderr(process))
        try:
            assert process.stdout is not None
            while line := (await process.stdout.readline()).decode():
                self.stdout += line if line.endswith("\n") else f"{line}\n"
                if step.expected and step.matches(self.stdout):
                    return True
            return await process.wait() == 0 and not step.expected
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            await process.wait()
            await reading

    async def _read_stderr(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := (await process.stderr.readline()).decode():
            self.stderr += line
