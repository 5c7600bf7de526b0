"""What `make bench` writes, and what it shows meanwhile."""

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


def test_each_row_has_the_command_that_measures_it_again(tmp_path: Path) -> None:
    write(PARTS, MACHINE, tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| CPU | 0.8 | <= 0.65 | `python -m benchmarks cost` |" in page
    assert "| a\\|b | 3 |  | `python -m benchmarks stack` |" in page
    assert "in 15 s: 2 cores, 8 GiB, Linux, Python 3.11.7." in page
    assert "busy" not in page


def test_a_busy_machine_is_said_to_be(tmp_path: Path) -> None:
    busy = Machine(cores=2, memory_gib=8, system="Linux", python="3.11.7", load=5)
    write(PARTS, busy, tmp_path)
    assert "(busy: " in (tmp_path / "benchmarks.md").read_text()


def test_plots_show_what_was_measured(tmp_path: Path) -> None:
    write(PARTS, MACHINE, tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    drawn = {}
    for name in ("cost", "latency"):
        path = f"static/benchmarks/{name}.svg"
        assert f"({path})" in page
        root = ET.parse(tmp_path / path).getroot()  # noqa: S314 - our own
        drawn[name] = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
        widths = [float(one.get("width", "")) for one in root if one.tag.endswith("rect")][1:]
        assert widths == sorted(widths, reverse=True)
    assert drawn["cost"][1:] == ["gateway", "200", "peer postgres", "100"]
    assert drawn["latency"][1:] == ["answered, 10% of capacity, p99", "1.5"]


def test_the_screen_shows_progress_and_nothing_that_processes_say(tmp_path: Path) -> None:
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
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (shown.stdout, shown.stderr) == ("table\n", "cost ... ")
    assert sorted(log.read_text().split()) == ["banner", "noise"]
