"""What `make bench-peers` writes."""

from __future__ import annotations

from benchmarks.cost import Round
from benchmarks.peers.__main__ import PEERS, page
from benchmarks.report import Machine

MACHINE = Machine(cores=2, memory_gib=8, system="Linux", python="3.11.7", load=0.1)
OUTPUT = """
    99%   12.50ms
  1000 requests in 5.00s, 1.00MB read
Requests/sec:    200.00
"""


def written(missing: dict[str, str]) -> str:
    found = {
        peer.name: [Round(OUTPUT, dict.fromkeys(peer.processes, 0.1), 10.0)]
        for peer in PEERS
        if peer.name not in missing
    }
    return page(found, missing, MACHINE, "2026-11-26")


def test_every_peer_has_its_figures_and_what_it_promises() -> None:
    lines = written({}).splitlines()
    for peer in PEERS:
        figures, promises = (line for line in lines if line.startswith(f"| {peer.name} |"))
        assert "| 200 | 100 | 12 |" in figures
        assert peer.durable in promises


def test_a_peer_that_is_not_installed_has_no_figures() -> None:
    assert "| Restate | not measured: npm installs it | | | | |" in written(
        {"Restate": "npm installs it"}
    )
