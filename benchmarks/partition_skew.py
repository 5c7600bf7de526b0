"""How uneven partitions by person become: `python -m benchmarks.partition_skew`.

A million people cause events as Zipf's law says: the n-th busiest as many as the first divided by
n to the power of an exponent. Each person belongs to one partition, by the CRC-32 of the id, as in
`hogsend.contract.partitions`. What is computed is each partition's share of all events, so nothing
is drawn but the ids, by a seed. Writes the plot of `docs/scale.md`, too.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from benchmarks.figures import median
from benchmarks.plots import Bar, bars
from benchmarks.report import DOCS, PLOTS

PEOPLE = 1_000_000
EXPONENTS = (0.8, 0.9, 1.0, 1.1, 1.2)
PARTITIONS = (8, 16, 64, 256)
REPLICAS = 8
"""Ingest processes that the partitions are given to."""
SEED = 1
DRAWS = 3
"""Populations, of which the median is told."""


class Skew(NamedTuple):
    """How uneven one number of partitions is, for one exponent."""

    exponent: float
    partitions: int
    busiest_person: float
    """Share of all events, 0 to 1."""
    hottest: float
    """Share of the hottest partition, as a multiple of the mean."""
    hottest_replica: float
    """The same for `REPLICAS` processes, if partitions were given to them by their load."""


def weights(people: int, exponent: float) -> list[float]:
    """Each person's share of all events, the busiest first."""
    each = [rank**-exponent for rank in range(1, people + 1)]
    together = sum(each)
    return [one / together for one in each]


def shares(hashes: Sequence[int], each: Sequence[float], partitions: int) -> list[float]:
    """Each partition's share of all events."""
    found = [0.0] * partitions
    for hashed, weight in zip(hashes, each, strict=True):
        found[hashed % partitions] += weight
    return found


def given_out(load: Sequence[float], replicas: int) -> list[float]:
    """Load of each replica, when the heaviest partition goes to the one with the least first."""
    found = [0.0] * min(replicas, len(load))
    for one in sorted(load, reverse=True):
        found[found.index(min(found))] += one
    return found


def simulate(people: int = PEOPLE, seed: int = SEED) -> list[Skew]:
    """Compute every combination."""
    drawn = random.Random(seed)  # noqa: S311 - the same people each time, not a secret
    populations = [[crc32(drawn.randbytes(16)) for _ in range(people)] for _ in range(DRAWS)]
    found = []
    for exponent in EXPONENTS:
        each = weights(people, exponent)
        for partitions in PARTITIONS:
            loads = [shares(hashes, each, partitions) for hashes in populations]
            replicas = [given_out(load, REPLICAS) for load in loads]
            found.append(
                Skew(
                    exponent,
                    partitions,
                    each[0],
                    median([max(load) * partitions for load in loads]),
                    median([max(load) * len(load) for load in replicas]),
                )
            )
    return found


def table(found: Sequence[Skew]) -> str:
    """Write the results in Markdown, a line for each exponent."""
    heads = [f"{partitions} partitions" for partitions in PARTITIONS]
    lines = [
        f"| exponent | busiest person | {' | '.join(heads)} |",
        f"|---|---|{'---|' * len(heads)}",
    ]
    for exponent in EXPONENTS:
        row = [one for one in found if one.exponent == exponent]
        cells = " | ".join(f"{one.hottest:.2f} ({one.hottest_replica:.2f})" for one in row)
        lines.append(f"| {exponent} | {row[0].busiest_person:.1%} | {cells} |")
    return "\n".join(lines)


def plot(found: Sequence[Skew]) -> str:
    """Draw the hottest partition of each combination."""
    values = [
        Bar(f"exponent {one.exponent}, {one.partitions} partitions", round(one.hottest, 2))
        for one in found
    ]
    return bars("Events of the hottest partition", "times the mean", values)


def main() -> int:
    """Simulate, print the table and write the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--people", type=int, default=PEOPLE)
    given = parser.parse_args()
    found = simulate(given.people, given.seed)
    print(table(found))
    if (given.seed, given.people) == (SEED, PEOPLE):
        (DOCS / PLOTS).mkdir(parents=True, exist_ok=True)
        (DOCS / PLOTS / "partition-skew.svg").write_text(plot(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
