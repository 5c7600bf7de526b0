"""Compares Hogsend with alternatives: `python -m benchmarks.peers [--rounds N]`.

Each gets the same webhooks with an empty database, in turn, for several rounds. Writes the medians
to `docs/peers.md`. Alternatives that are not installed are listed there without results.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import NamedTuple

from benchmarks import cost
from benchmarks.cost import Round, Setup
from benchmarks.ending import run_to_end
from benchmarks.figures import median
from benchmarks.peers import setups
from benchmarks.peers.n8n_receiver import n8n_receiver
from benchmarks.report import DOCS, Machine, machine
from benchmarks.screen import LOG, quiet
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.servers import Servers, running_servers

ROUNDS = 3


class Peer(NamedTuple):
    """A program that accepts webhooks and stores them."""

    name: str
    setup: Callable[[Servers, Connection], AbstractAsyncContextManager[Setup]]
    processes: Sequence[str]
    durable: str
    """What its success response guarantees."""
    deduplicated: str
    """How it recognises a repeated webhook."""
    during_outage: str
    """What it answers while its database or broker is down."""
    also_stored: str
    """What it does with a webhook besides inserting a row."""


PEERS = (
    Peer(
        "Hogsend",
        cost.hogsend,
        cost.HOGSEND_PROCESSES,
        "stored by JetStream, synced to disk within 10 s; otherwise synced in the gateway's spool",
        "by the event's key, as long as the event is stored",
        "200; the spool holds 256 MiB",
        "contact, merged by user id and email; event on NATS after its commit; dead letters",
    ),
    Peer(
        "FastAPI, JetStream, a consumer that inserts",
        lambda servers, _: cost.jetstream_receiver(servers),
        cost.PEER_PROCESSES,
        "stored by JetStream, synced to disk within 10 s",
        "by id, as long as the row is stored",
        "500 without NATS; without PostgreSQL the consumer exits",
        "nothing",
    ),
    Peer(
        "FastAPI that inserts",
        lambda servers, _: setups.postgres_receiver(servers),
        ("fastapi_postgres", "postgres"),
        "committed by PostgreSQL",
        "by id, as long as the row is stored",
        "500",
        "nothing",
    ),
    Peer(
        "Restate",
        lambda servers, _: setups.restate_receiver(servers),
        ("restate-server", "node", "postgres"),
        "stored on the server's disk (202)",
        "by the header `idempotency-key` for a day, and by the row's id",
        "the server is the broker: no response without it; without PostgreSQL its handler retries",
        "retries; a wrong secret is detected after the response",
    ),
    Peer(
        "n8n",
        lambda servers, _: n8n_receiver(servers),
        ("node", "postgres"),
        "its execution is started and committed by PostgreSQL",
        "no",
        "PostgreSQL is its own store: no 200 without it; an interrupted execution crashes",
        "the execution's data, instead of a row",
    ),
)

Results = Mapping[str, Sequence[Round]]


async def measure(rounds: int, progress: Callable[[str], object]) -> tuple[Results, dict[str, str]]:
    """Measure all peers in turn. Returns their rounds, and the reasons why some are missing."""
    results: dict[str, list[Round]] = {}
    missing: dict[str, str] = {}
    async with running_servers() as servers:
        bus = Connection(User.OPERATOR, servers.nats_url(User.OPERATOR))
        await bus.open()
        await streams.reconcile(bus.js, User.INGEST)
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds} ")
            for peer in PEERS:
                if peer.name in missing:
                    continue
                progress(f"| {peer.name} ")
                try:
                    result = await cost.one_round(peer.setup(servers, bus), peer.processes)
                except setups.NotInstalled as error:
                    missing[peer.name] = str(error)
                else:
                    results.setdefault(peer.name, []).append(result)
            progress("\n")
        await bus.close()
    return results, missing


def page(results: Results, missing: Mapping[str, str], on: Machine, today: str) -> str:
    """The page as Markdown."""
    rounds = max(map(len, results.values()), default=0)
    described = (
        "Read this page if you wonder what Hogsend costs compared with a receiver that you could "
        "write or install yourself. Each program received the same webhooks of "
        f"{cost.PEOPLE:,} people over {cost.CONNECTIONS} connections, for {cost.ROUND_SECONDS} "
        f"seconds, alternately; the figures are medians of {rounds} rounds. The programs are in "
        "`benchmarks/peers`, a few lines each. All use the same PostgreSQL, which does not wait "
        "for the disk here; Restate's server does. `make bench-peers` writes this page."
    )
    measured = (
        f"Measured on {today}: {on.cores} cores, {on.memory_gib:g} GiB, {on.system}. "
        f"Load before the run: {on.load:g}. Rates and latencies are worse on a busy machine; "
        "CPU time suffers less. CPU time is measured from the first webhook to the last row, "
        "background work included."
    )
    promises = [
        f"| {peer.name} | {peer.durable} | {peer.deduplicated} "
        f"| {peer.during_outage} | {peer.also_stored} |"
        for peer in PEERS
    ]
    lines = [
        *("# Compared with alternatives", "", described, "", measured, ""),
        "| | CPU us a webhook | by process | answered/s | stored/s | p99 ms |",
        "|---|---|---|---|---|---|",
        *(_row(peer, results[peer.name]) for peer in PEERS if peer.name in results),
        *(f"| {name} | not measured: {why} | | | | |" for name, why in missing.items()),
        *("", "The programs do not do the same work:", ""),
        "| | a success response means | recognises repeats | during an outage | besides a row |",
        "|---|---|---|---|---|",
        *promises,
    ]
    return "\n".join(lines) + "\n"


def _row(peer: Peer, rounds: Sequence[Round]) -> str:
    parts = ", ".join(
        f"{name.replace('_', ' ')} {median([round.cost[name] for round in rounds]):.0f}"
        for name in peer.processes
    )
    together = median([round.together for round in rounds])
    answered = median([round.answered for round in rounds])
    stored = median([round.stored for round in rounds])
    p99 = median([round.p99 for round in rounds])
    return (
        f"| {peer.name} | {together:.0f} | {parts} | {answered:,.0f} | {stored:,.0f} | {p99:.0f} |"
    )


def main() -> int:
    """Measure all peers, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        print("error: the benchmarks need wrk\n  fix: apt-get install wrk", file=sys.stderr)
        return 1
    measured_on = machine()
    with quiet(LOG) as screen:
        try:
            results, missing = run_to_end(measure(arguments.rounds, screen.write))
        except Exception:  # noqa: BLE001 - the screen names the log with the traceback
            screen.write(f"failed; see {LOG}\n")
            traceback.print_exc()
            return 1
    (DOCS / "peers.md").write_text(
        page(results, missing, measured_on, f"{datetime.now(UTC):%Y-%m-%d}")
    )
    for name, why in missing.items():
        print(f"{name} was left out: {why}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
