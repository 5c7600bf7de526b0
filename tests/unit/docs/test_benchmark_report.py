"""The report and the plots that `make bench` writes, and its output while it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.figures import Figure
from benchmarks.report import Machine, Part, write

ROOT = Path(__file__).parents[3]
MACHINE = Machine(cores=2, memory_gib=8, system="Linux", python="3.11.7", load=0.1)
COSTS: dict[str, float] = {"us_gateway": 200, "peer_us_postgres": 100}
PARTS = [
    Part(
        "cost", [Figure("CPU", "0.8", "<= 0.65", {"us_gateway": 200, "peer_us_postgres": 100})], 5
    ),
    Part(
        "latency",
        [Figure("ms, p99 at 10% of capacity", "1 / 2", details={"answered_p99_ms": 1.5})],
        5,
    ),
    Part("stack", [Figure("a|b", "3")], 5),
]


def test_each_row_of_the_report_has_the_command_that_measures_it(tmp_path: Path) -> None:
    write(PARTS, MACHINE, tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| CPU | 0.8 | <= 0.65 | `python -m benchmarks cost` |" in page
    assert "| a\\|b | 3 |  | `python -m benchmarks stack` |" in page
    assert "in 15 s: 2 cores, 8 GiB, Linux, Python 3.11.7." in page
    assert "busy" not in page


def test_the_report_states_that_the_machine_was_busy(tmp_path: Path) -> None:
    busy = Machine(cores=2, memory_gib=8, system="Linux", python="3.11.7", load=5)
    write(PARTS, busy, tmp_path)
    assert "(busy: " in (tmp_path / "benchmarks.md").read_text()


def test_a_plot_shows_the_measured_values_in_descending_order(tmp_path: Path) -> None:
    write(PARTS, MACHINE, tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    texts = {}
    for name in ("cost", "latency"):
        path = f"static/benchmarks/{name}.svg"
        assert f"({path})" in page
        root = ET.parse(tmp_path / path).getroot()  # noqa: S314 - a file that Hogsend wrote
        texts[name] = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        widths = [float(e.get("width", "")) for e in root if e.tag.endswith("rect")][1:]
        assert widths == sorted(widths, reverse=True)
    assert texts["cost"][1:] == ["gateway", "200", "peer postgres", "100"]
    assert texts["latency"][1:] == ["answered, 10% of capacity, p99", "1.5"]


def test_the_terminal_shows_progress_and_no_output_of_child_processes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f"""
import subprocess, sys
from pathlib import Path
from benchmarks.screen import quiet
with quiet(Path({str(log)!r})) as screen:
    subprocess.run([sys.executable, "-c", "print('banner')"])
    print("noise", file=sys.stderr)
    screen.write("cost ... ")
print("table")
"""
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (process.stdout, process.stderr) == ("table\n", "cost ... ")
    assert sorted(log.read_text().split()) == ["banner", "noise"]
