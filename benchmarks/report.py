"""Writes `docs/benchmarks.md`: the results, the machine, and the command of each measurement."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from benchmarks.figures import Figure
from benchmarks.plots import Bar, bars

DOCS = Path(__file__).parents[1] / "docs"
PLOTS = "static/benchmarks"
_MICROSECONDS = "us_"
_PERCENTILES = ("p50", "p99", "p99.9")


class Part(msgspec.Struct, frozen=True):
    """The results of one part of the run."""

    name: str
    figures: list[Figure]
    seconds: float
    """Duration of the part."""


class Machine(msgspec.Struct, frozen=True):
    """The machine of the measurement."""

    cores: int
    memory_gib: float
    system: str
    python: str
    load: float
    """Load average of the minute before the run."""


def machine() -> Machine:
    """Describe this machine."""
    return Machine(
        cores=psutil.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        load=round(psutil.getloadavg()[0], 1),
    )


def write(parts: Sequence[Part], measured_on: Machine, docs: Path = DOCS) -> None:
    """Write the page and its plots."""
    plots = _plots(parts)
    (docs / PLOTS).mkdir(parents=True, exist_ok=True)
    for name, (title, unit, values) in plots.items():
        (docs / PLOTS / f"{name}.svg").write_text(bars(title, unit, values))
    (docs / "benchmarks.md").write_text(page(parts, measured_on, list(plots)))


def page(parts: Sequence[Part], measured_on: Machine, plots: Sequence[str]) -> str:
    """Write the page in Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "Read this page to see what Hogsend costs, or to compare a change with the version before.",
        "`make bench` writes it: every number was measured in one run, on the machine below. Both",
        "sides of a ratio were measured alternately, so ratios transfer to other machines better",
        "than rates do.",
        "",
        _machine_text(measured_on, sum(part.seconds for part in parts)),
        "",
        "| figure | value | goal | command |",
        "|---|---|---|---|",
        *(
            f"| {_cell(figure.name)} | {_cell(figure.value)} | {_cell(figure.goal)} | "
            f"`python -m benchmarks {part.name}` |"
            for part in parts
            for figure in part.figures
        ),
        "",
    ]
    for name in plots:
        lines += [f"![{name}]({PLOTS}/{name}.svg)", ""]
    lines += ["## In detail", ""]
    for part in parts:
        lines += [f"### {part.name}", "", f"`python -m benchmarks {part.name}`", ""]
        for figure in part.figures:
            lines += [f"{figure.name}: {figure.value}", ""]
            if figure.details:
                lines += ["| measured | value |", "|---|---|"]
                lines += [
                    f"| {_cell(name)} | {value:g} |" for name, value in figure.details.items()
                ]
                lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def _plots(parts: Sequence[Part]) -> Mapping[str, tuple[str, str, list[Bar]]]:
    """Title, unit and bars of each plot, by file name. Plots without figures are omitted."""
    figures = {part.name: part.figures for part in parts}
    plots = {}
    costs = [
        Bar(name.replace(_MICROSECONDS, "").replace("_", " "), value)
        for figure in figures.get("cost", [])
        for name, value in figure.details.items()
        if name.removeprefix("peer_").startswith(_MICROSECONDS)
    ]
    if costs:
        plots["cost"] = ("CPU time of a webhook, by process", "us", costs)
    latencies = [
        Bar(f"{where}, {figure.name.rpartition(' at ')[2]}, {name}", value)
        for figure in figures.get("latency", [])
        for where in ("answered", "subscriber")
        for name in _PERCENTILES
        if (value := figure.details.get(f"{where}_{name}_ms")) is not None
    ]
    if latencies:
        plots["latency"] = ("From POST to the answer, and to a subscriber", "ms", latencies)
    return plots


def _machine_text(on: Machine, seconds: float) -> str:
    busy = " (busy: rates and latencies are worse than on a quiet machine)"
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} in {seconds:.0f} s: {on.cores} cores, "
        f"{on.memory_gib:g} GiB, {on.system}, Python {on.python}. "
        f"Load before the run: {on.load:g}{busy if on.load > on.cores / 2 else ''}."
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
