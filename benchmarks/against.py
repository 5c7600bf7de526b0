"""What a change gained or cost: `python -m benchmarks.against COMMIT [PART ...]`.

Runs each part in a checkout of that commit and in this one, in turn, so that whatever else the
machine does falls on both, and prints the medians of both side by side. It exits with 1 when
something has become worse by more than a twentieth.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.ending import run_to_end
from benchmarks.figures import Figure, median

HERE = Path(__file__).parents[1]
PARTS = ("webhooks", "ingest", "cost", "propagation", "bearers", "persons", "capturing")
"""Parts whose figures tell one version from another."""
ROUNDS = 3
TOLERATED = 0.95
MORE_IS_BETTER = ("per_second",)
LESS_IS_BETTER = ("us_", "_us", "_ms", "round_trips", "mib")
YARDSTICKS = ("peer_", "package_", "echoes_", "straight_", "round_trip_ms", "process_with_package")
"""Beginnings of the names of what is measured to compare with; it is not ours to be faster."""

_decode = msgspec.json.Decoder(list[Figure]).decode


class Comparison(NamedTuple):
    """One number of both versions."""

    name: str
    before: float
    after: float
    gain: float | None
    """How many times as good it is now; None where neither more nor less is better."""

    @property
    def is_worse(self) -> bool:
        """Whether it is worse than a machine's noise explains."""
        return self.gain is not None and self.gain < TOLERATED


class CannotCompare(Exception):
    """Why a version could not be measured."""


def compare(before: Sequence[list[Figure]], after: Sequence[list[Figure]]) -> list[Comparison]:
    """Compare the medians of what rounds of both versions found; numbers of one alone are left out.

    Args:
        before: figures of each round of the earlier version.
        after: the same of this one.
    """
    earlier, now = _medians(before), _medians(after)
    return [
        Comparison(name, earlier[name], value, _gain(name, earlier[name], value))
        for name, value in now.items()
        if name in earlier
    ]


def _medians(rounds: Iterable[list[Figure]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for figures in rounds:
        for figure in figures:
            for name, value in figure.details.items():
                found.setdefault(f"{figure.name}: {name}", []).append(value)
    return {name: median(values) for name, values in found.items()}


def _gain(name: str, before: float, after: float) -> float | None:
    detail = name.rpartition(": ")[2]
    if not before or not after or detail.startswith(YARDSTICKS):
        return None
    if detail.endswith(MORE_IS_BETTER):
        return after / before
    if detail.startswith(LESS_IS_BETTER) or detail.endswith(LESS_IS_BETTER):
        return before / after
    return None


def table(compared: Iterable[Comparison]) -> str:
    """Write what was compared as a Markdown table."""
    lines = ["| measured | before | after | times as good |", "|---|---|---|---|"]
    for one in compared:
        gain = "" if one.gain is None else f"{one.gain:.2f}{' (worse)' if one.is_worse else ''}"
        lines.append(f"| {one.name} | {one.before:g} | {one.after:g} | {gain} |")
    return "\n".join(lines)


async def measure(commit: str, parts: Sequence[str]) -> list[Comparison]:
    """Measure parts at a commit and here, in turn.

    Raises:
        CannotCompare: there is no such commit, or one of the two cannot be measured.
    """
    compared: list[Comparison] = []
    async with _checkout(commit) as there:
        for part in parts:
            before: list[list[Figure]] = []
            after: list[list[Figure]] = []
            for number in range(1, ROUNDS + 1):
                sys.stderr.write(f"{part}, round {number} of {ROUNDS} ...\n")
                before.append(await _figures(there, part))
                after.append(await _figures(HERE, part))
            compared += compare(before, after)
    return compared


@asynccontextmanager
async def _checkout(commit: str) -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hogsend-against-") as directory:
        place = Path(directory, "project")
        await _output("git", "worktree", "add", "--quiet", "--detach", str(place), commit)
        try:
            yield place
        finally:
            await _output("git", "worktree", "remove", "--force", str(place))


async def _figures(checkout: Path, part: str) -> list[Figure]:
    path = os.pathsep.join((str(checkout), str(checkout / "shared")))
    output = await _output(
        sys.executable, "-m", "benchmarks", part, cwd=checkout, more={"PYTHONPATH": path}
    )
    try:
        return _decode(output.splitlines()[-1])
    except (IndexError, msgspec.MsgspecError) as error:
        raise CannotCompare(f"{checkout} has no such benchmark: {part}") from error


async def _output(*command: str, cwd: Path = HERE, more: Mapping[str, str] | None = None) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **(more or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, said = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if process.returncode:
        raise CannotCompare(f"{' '.join(command)}: {said.decode().strip()}")
    return output


def main() -> int:
    """Compare, print, and say with the exit code whether anything is worse."""
    if len(sys.argv) == 1:
        sys.stderr.write(
            "error: it takes the commit to compare with\n"
            "  fix: make bench-against COMMIT=main~1, or with PARTS='ingest cost'\n"
        )
        return 2
    commit, *parts = sys.argv[1:]
    try:
        compared = run_to_end(measure(commit, parts or PARTS))
    except CannotCompare as error:
        sys.stderr.write(f"error: {error}\n  fix: name a commit that has this benchmark\n")
        return 2
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(f"{table(compared)}\n")
    return 1 if any(one.is_worse for one in compared) else 0


if __name__ == "__main__":
    sys.exit(main())
