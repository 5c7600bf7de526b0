"""Compares this version with an earlier commit: `python -m benchmarks.against COMMIT [PART ...]`.

Runs each part in a checkout of that commit and in this one, in turn, so that other load of the
machine affects both. Prints the medians of both. Exits with 1 if any number is worse by more than
a twentieth.
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
"""Parts that are compared by default: those whose figures depend on Hogsend's code."""
ROUNDS = 3
TOLERATED = 0.95
MORE_IS_BETTER = ("per_second",)
LESS_IS_BETTER = ("us_", "_us", "_ms", "round_trips", "mib")
YARDSTICKS = ("peer_", "package_", "echoes_", "straight_", "round_trip_ms", "process_with_package")
"""Prefixes of numbers that are measured for comparison only, and do not depend on Hogsend."""

_decode = msgspec.json.Decoder(list[Figure]).decode


class Comparison(NamedTuple):
    """One number, measured in both versions."""

    name: str
    before: float
    after: float
    gain: float | None
    """Factor of improvement, above 1 if it is better now; None for a number without a direction."""

    @property
    def is_worse(self) -> bool:
        """Whether the number is worse by more than the tolerated noise."""
        return self.gain is not None and self.gain < TOLERATED


class CannotCompare(Exception):
    """A version could not be measured. The message states why."""


def compare(before: Sequence[list[Figure]], after: Sequence[list[Figure]]) -> list[Comparison]:
    """Compare the medians of both versions. Numbers that only one version has are omitted.

    Args:
        before: figures of each round of the earlier version.
        after: figures of each round of this version.
    """
    earlier, current = _medians(before), _medians(after)
    return [
        Comparison(name, earlier[name], value, _gain(name, earlier[name], value))
        for name, value in current.items()
        if name in earlier
    ]


def _medians(rounds: Iterable[list[Figure]]) -> dict[str, float]:
    values_by_name: dict[str, list[float]] = {}
    for figures in rounds:
        for figure in figures:
            for name, value in figure.details.items():
                values_by_name.setdefault(f"{figure.name}: {name}", []).append(value)
    return {name: median(values) for name, values in values_by_name.items()}


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
    """Format the comparisons as a Markdown table."""
    lines = ["| measured | before | after | times as good |", "|---|---|---|---|"]
    for row in compared:
        gain = "" if row.gain is None else f"{row.gain:.2f}{' (worse)' if row.is_worse else ''}"
        lines.append(f"| {row.name} | {row.before:g} | {row.after:g} | {gain} |")
    return "\n".join(lines)


async def measure(commit: str, parts: Sequence[str]) -> list[Comparison]:
    """Measure parts in a commit and in this checkout, in turn.

    Raises:
        CannotCompare: the commit does not exist, or one of the versions cannot be measured.
    """
    compared: list[Comparison] = []
    async with _checkout(commit) as earlier:
        for part in parts:
            before: list[list[Figure]] = []
            after: list[list[Figure]] = []
            for number in range(1, ROUNDS + 1):
                sys.stderr.write(f"{part}, round {number} of {ROUNDS} ...\n")
                before.append(await _figures(earlier, part))
                after.append(await _figures(HERE, part))
            compared += compare(before, after)
    return compared


@asynccontextmanager
async def _checkout(commit: str) -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hogsend-against-") as directory:
        worktree = Path(directory, "project")
        await _output("git", "worktree", "add", "--quiet", "--detach", str(worktree), commit)
        try:
            yield worktree
        finally:
            await _output("git", "worktree", "remove", "--force", str(worktree))


async def _figures(checkout: Path, part: str) -> list[Figure]:
    path = os.pathsep.join((str(checkout), str(checkout / "shared")))
    output = await _output(
        sys.executable, "-m", "benchmarks", part, cwd=checkout, variables={"PYTHONPATH": path}
    )
    try:
        return _decode(output.splitlines()[-1])
    except (IndexError, msgspec.MsgspecError) as error:
        raise CannotCompare(f"{checkout} has no such benchmark: {part}") from error


async def _output(
    *command: str, cwd: Path = HERE, variables: Mapping[str, str] | None = None
) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **(variables or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if process.returncode:
        raise CannotCompare(f"{' '.join(command)}: {errors.decode().strip()}")
    return output


def main() -> int:
    """Compare, print the table, and exit with 1 if any number is worse."""
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
    return 1 if any(comparison.is_worse for comparison in compared) else 0


if __name__ == "__main__":
    sys.exit(main())
