"""Load differences between partitions by person: `python -m benchmarks.partition_skew`.

A million people cause events by Zipf's law: the n-th busiest person causes as many as the busiest
divided by n to the power of an exponent. The CRC-32 of a person's id selects the partition, as in
`hogsend.contract.partitions`. Each partition's share of all events is computed exactly; only the
ids are random, with a fixed seed. Also writes the plot of `docs/scale.md`.
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
"""Number of ingest processes that consume the partitions."""
SEED = 1
DRAWS = 3
"""Number of populations; results are the median of them."""


class Skew(NamedTuple):
    """The skew of one number of partitions, for one exponent."""

    exponent: float
    partitions: int
    busiest_person: float
    """Share of all events, 0 to 1."""
    hottest: float
    """Share of the hottest partition, as a multiple of the mean."""
    hottest_replica: float
    """The same for the hottest of `REPLICAS` processes, if partitions are assigned by load."""


def weights(people: int, exponent: float) -> list[float]:
    """Each person's share of all events, the busiest first."""
    events = [rank**-exponent for rank in range(1, people + 1)]
    total = sum(events)
    return [count / total for count in events]


def shares(hashes: Sequence[int], weights: Sequence[float], partitions: int) -> list[float]:
    """Each partition's share of all events."""
    loads = [0.0] * partitions
    for hashed, weight in zip(hashes, weights, strict=True):
        loads[hashed % partitions] += weight
    return loads


def assigned(partition_loads: Sequence[float], replicas: int) -> list[float]:
    """Load of each replica, if the heaviest partition is assigned to the least loaded one first."""
    loads = [0.0] * min(replicas, len(partition_loads))
    for load in sorted(partition_loads, reverse=True):
        loads[loads.index(min(loads))] += load
    return loads


def simulate(people: int = PEOPLE, seed: int = SEED) -> list[Skew]:
    """Compute the skew of every combination of exponent and partitions."""
    drawn = random.Random(seed)  # noqa: S311 - the same people each time, not a secret
    populations = [[crc32(drawn.randbytes(16)) for _ in range(people)] for _ in range(DRAWS)]
    results = []
    for exponent in EXPONENTS:
        by_person = weights(people, exponent)
        for partitions in PARTITIONS:
            loads = [shares(hashes, by_person, partitions) for hashes in populations]
            replicas = [assigned(load, REPLICAS) for load in loads]
            results.append(
                Skew(
                    exponent,
                    partitions,
                    by_person[0],
                    median([max(load) * partitions for load in loads]),
                    median([max(load) * len(load) for load in replicas]),
                )
            )
    return results


def table(results: Sequence[Skew]) -> str:
    """Format the results as a Markdown table with a row for each exponent."""
    heads = [f"{partitions} partitions" for partitions in PARTITIONS]
    lines = [
        f"| exponent | busiest person | {' | '.join(heads)} |",
        f"|---|---|{'---|' * len(heads)}",
    ]
    for exponent in EXPONENTS:
        row = [skew for skew in results if skew.exponent == exponent]
        cells = " | ".join(f"{skew.hottest:.2f} ({skew.hottest_replica:.2f})" for skew in row)
        lines.append(f"| {exponent} | {row[0].busiest_person:.1%} | {cells} |")
    return "\n".join(lines)


def plot(results: Sequence[Skew]) -> str:
    """Draw the load of the hottest partition of each combination."""
    values = [
        Bar(f"exponent {skew.exponent}, {skew.partitions} partitions", round(skew.hottest, 2))
        for skew in results
    ]
    return bars("Events of the hottest partition", "times the mean", values)


def main() -> int:
    """Simulate, print the table and write the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--people", type=int, default=PEOPLE)
    arguments = parser.parse_args()
    results = simulate(arguments.people, arguments.seed)
    print(table(results))
    if (arguments.seed, arguments.people) == (SEED, PEOPLE):
        (DOCS / PLOTS).mkdir(parents=True, exist_ok=True)
        (DOCS / PLOTS / "partition-skew.svg").write_text(plot(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
