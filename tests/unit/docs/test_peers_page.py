"""The page that `make bench-peers` writes."""

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


def write_page(missing: dict[str, str]) -> str:
    rounds = {
        peer.name: [Round(OUTPUT, dict.fromkeys(peer.processes, 0.1), 10.0)]
        for peer in PEERS
        if peer.name not in missing
    }
    return page(rounds, missing, MACHINE, "2026-11-26")


def test_the_page_has_the_figures_and_the_durability_of_every_peer() -> None:
    lines = write_page({}).splitlines()
    for peer in PEERS:
        figures, durability = (line for line in lines if line.startswith(f"| {peer.name} |"))
        assert "| 200 | 100 | 12 |" in figures
        assert peer.durable in durability


def test_a_peer_that_is_not_installed_is_listed_as_not_measured() -> None:
    assert "| Restate | not measured: npm installs it | | | | |" in write_page(
        {"Restate": "npm installs it"}
    )
