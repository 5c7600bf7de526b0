"""Several gateway processes: the workers, their shared limits, and their parent process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from hogsend.contract.errors import CannotStart
from hogsend.service.settings.shared import TelemetrySettings
from services.gateway.admin_keys import AdminKeys, Scope
from services.gateway.app import _in_first_worker
from services.gateway.listener import join, port_for_workers
from services.gateway.settings import GatewaySettings
from services.gateway.workers import children, link, parent
from services.gateway.workers.identity import (
    LINK,
    NUMBER,
    PORT,
    WorkerIdentity,
    worker_identity,
    worker_settings,
)
from services.gateway.workers.link import Workers
from services.gateway.workers.messages import (
    MAX_UNSENT_BYTES,
    Counted,
    PeersReply,
    PeersRequest,
    Ready,
    ReportReply,
    ReportRequest,
    WorkerReport,
    from_worker,
    send,
)
from services.gateway.workers.parent import Parent
from services.gateway.workers.samples import RESTARTS, Collected, families_of
from tests.ports import free_port
from tests.waiting import eventually

SERVES = """
import os, socket
link = socket.socket(fileno=int(os.environ["HOGSEND_WORKER_FD"]))
link.sendall(b"\\0\\0\\0\\7\\x91\\xa5Ready")
while True:
    length = int.from_bytes(link.recv(4), "big")
    if not length or not link.recv(length):
        break
"""
"""A worker that serves nothing and starts quickly."""


def settings(**changes: Any) -> GatewaySettings:
    return GatewaySettings(**changes)


def report(number: int, **changes: Any) -> WorkerReport:
    defaults = {"spooling": False, "waiting": 0, "refused": 0, "files_aside": 0, "families": []}
    return WorkerReport(number, **{**defaults, **changes})


# Shared limits and the shared port.


def test_each_worker_gets_its_share_of_the_gateways_limits() -> None:
    share = worker_settings(
        settings(
            gateway_workers=3,
            spool_max_bytes=300,
            gateway_max_connections=100,
            gateway_liveness_port=3012,
        )
    )
    assert (share.spool_max_bytes, share.gateway_max_connections) == (100, 34)
    assert share.gateway_liveness_port == 0


def test_a_process_is_a_worker_only_with_all_variables_of_a_parent() -> None:
    assert worker_identity({}) is None
    with pytest.raises(CannotStart, match="leave them unset"):
        worker_identity({NUMBER: "1"})
    with pytest.raises(CannotStart, match="leave them unset"):
        worker_identity({NUMBER: "1", LINK: "x", PORT: "3"})


def test_the_port_is_reserved_by_the_parent_and_open_while_a_worker_listens() -> None:
    port = free_port()
    address = ("127.0.0.1", port)
    reserved = port_for_workers(*address, share=False, environment={})
    with pytest.raises(CannotStart):
        port_for_workers(*address, share=False, environment={})
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    listeners = [join(reserved, unread_seconds=1), join(reserved, unread_seconds=1)]
    socket.create_connection(address).close()
    listeners.pop().close()
    socket.create_connection(address).close()
    with pytest.raises(CannotStart):
        port_for_workers(*address, share=False, environment={})
    listeners.pop().close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    reserved.close()


def test_requests_to_posthog_are_made_by_the_first_worker_only() -> None:
    work: Any = Mock()
    identities = (None, WorkerIdentity(1, Mock(), Mock()), WorkerIdentity(2, Mock(), Mock()))
    assert [_in_first_worker(identity, work) for identity in identities] == [[work], [work], []]


def test_metrics_of_workers_are_distinguished_by_a_label() -> None:
    registry = CollectorRegistry()
    Counter("hogsend_things", "Things", ["kind"], registry=registry).labels("a").inc(2)
    Gauge("hogsend_gateway_workers", "Only the parent's", registry=registry).set(2)
    own = families_of(registry, parent=True)
    of_worker = families_of(registry, parent=False)
    lines = Collected(own, {2: of_worker, 1: of_worker}).text().decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "hogsend_gateway_workers 2.0",
        'hogsend_things_total{kind="a",worker="1"} 2.0',
        'hogsend_things_total{kind="a",worker="2"} 2.0',
    ]
    assert lines.count("# TYPE hogsend_things_total counter") == 1


def test_rate_limits_of_keys_apply_to_all_workers_together() -> None:
    keys: list[AdminKeys] = []

    def count_in_the_other(index: int, *counted: str) -> None:
        keys[1 - index].add_remote_count(*counted)

    limits = settings(admin_rate_limit=3, admin_failed_key_limit=3)
    keys += [AdminKeys(limits, on_counted=partial(count_in_the_other, index)) for index in (0, 1)]
    remaining = [keys[index % 2].count_request(Scope.READ)[1] for index in range(5)]
    assert remaining == [2, 1, 0, -1, -1]
    refused = [keys[index % 2].count_failure(f"k-{index}", "192.0.2.1") for index in range(5)]
    assert refused == [False, False, False, True, True]


# A worker whose parent is simulated by the test.


class SimulatedParent:
    """A simulated parent: its end of the socket of one worker."""

    def __init__(
        self,
        workers: Workers,
        queue: Any,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.workers = workers
        self.queue = queue
        self.reader = reader
        self.writer = writer


@asynccontextmanager
async def running_worker(expected: int = 2) -> AsyncIterator[SimulatedParent]:
    own_end, worker_end = socket.socketpair()
    queue: Any = Mock(spooling=True, waiting=3, refused=1, files_aside=2, is_full=True)
    workers = Workers(queue, WorkerIdentity(1, worker_end, Mock()), expected)
    listening = asyncio.create_task(workers.listen())
    reader, writer = await asyncio.open_unix_connection(sock=own_end)
    workers.report_ready()
    assert await from_worker(reader) == Ready()
    yield SimulatedParent(workers, queue, reader, writer)
    writer.close()
    await listening


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record how a worker stops, instead of stopping this process."""
    calls: list[str] = []
    monkeypatch.setattr(os, "kill", lambda _pid, number: calls.append(number.name))
    monkeypatch.setattr(link, "_exit_within", lambda _seconds: calls.append("exit within"))
    return calls


async def test_a_worker_stops_when_its_parent_has_ended(stops: list[str]) -> None:
    async with running_worker():
        assert stops == []
    assert stops == ["exit within", "SIGTERM"]


@pytest.mark.usefixtures("stops")
async def test_a_worker_reports_its_state_and_requests_that_of_the_others() -> None:
    async with running_worker() as simulated:
        own = report(1, spooling=True, waiting=3, refused=1, files_aside=2, full=True)
        send(simulated.writer, ReportRequest(7, metrics=False))
        assert await from_worker(simulated.reader) == ReportReply(7, own)

        requests = [asyncio.create_task(simulated.workers.reports()) for _ in range(3)]
        assert await from_worker(simulated.reader) == PeersRequest(1, metrics=False)
        send(simulated.writer, PeersReply(1, [report(2, waiting=4)], []))
        # Concurrent callers share one request.
        assert await asyncio.gather(*requests) == [[own, report(2, waiting=4)]] * 3

        scraping = asyncio.create_task(simulated.workers.metrics())
        assert await from_worker(simulated.reader) == PeersRequest(2, metrics=True)
        send(simulated.writer, PeersReply(2, [], []))
        assert b'worker="1"' in (await scraping or b"")


@pytest.mark.usefixtures("stops")
async def test_a_worker_reports_only_itself_when_the_parent_does_not_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "PEERS_SECONDS", 0.0)
    async with running_worker() as simulated:
        assert await simulated.workers.waiting() == 3
        simulated.queue.waiting = 0
        assert await simulated.workers.waiting() is None, (
            "the number at the other workers is unknown"
        )


@pytest.mark.usefixtures("stops")
async def test_a_worker_receives_and_publishes_counts_of_requests() -> None:
    async with running_worker() as simulated:
        received: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        simulated.workers.on_counted = lambda kind, key: received.set_result((kind, key))
        send(simulated.writer, Counted("address", "192.0.2.1"))
        assert await received == ("address", "192.0.2.1")
        simulated.workers.publish_count("request", "read")
        assert await from_worker(simulated.reader) == Counted("request", "read")


def test_messages_to_a_process_that_does_not_read_are_dropped() -> None:
    writer = Mock()
    writer.transport.is_closing.return_value = False
    writer.transport.get_write_buffer_size.return_value = MAX_UNSENT_BYTES + 1
    send(writer, Counted("request", "read"))
    assert writer.write.mock_calls == []


async def test_a_gateway_of_one_process_sends_no_requests_to_workers() -> None:
    queue: Any = Mock(spooling=False, waiting=2, refused=0, files_aside=0, is_full=False)
    workers = Workers(queue)
    await workers.listen()
    workers.publish_count("request", "read")
    assert (await workers.waiting(), await workers.metrics()) == (2, None)


# A real parent, with workers that serve nothing.


class RunningParent:
    """A running parent process."""

    def __init__(self, parent: Parent, running: asyncio.Task[int]) -> None:
        self.parent = parent
        self.running = running

    def pids(self) -> dict[int, int]:
        """Process ids of the workers that serve, by their number."""
        workers = self.parent._workers.values()
        return {worker.number: worker.process.pid for worker in workers if worker.is_ready}

    async def wait_until_ready(self, number: int = 2) -> dict[int, int]:
        await eventually(lambda: len(self.pids()) == number)
        return self.pids()

    async def stop(self) -> int:
        self.parent.stop()
        return await self.running


@asynccontextmanager
async def running_parent(
    monkeypatch: pytest.MonkeyPatch, program: str, health_file: Path | None = None
) -> AsyncIterator[RunningParent]:
    monkeypatch.setattr(children, "COMMAND", (sys.executable, "-S", "-c", program))
    port = port_for_workers("127.0.0.1", free_port(), share=False, environment={})
    telemetry = TelemetrySettings(health_file=health_file)
    parent_process = Parent(settings(gateway_workers=2), telemetry, port)
    running = asyncio.create_task(parent_process.run())
    try:
        yield RunningParent(parent_process, running)
    finally:
        parent_process.stop()
        await running


def restarts() -> float:
    return RESTARTS._value.get()


@pytest.mark.parametrize("number", [signal.SIGKILL, 40])
async def test_a_worker_that_dies_is_started_again(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, file = restarts(), tmp_path / "health"
    async with running_parent(monkeypatch, SERVES, file) as gateway:
        first = await gateway.wait_until_ready()
        os.kill(first[1], number)
        await eventually(lambda: gateway.pids().get(1) not in {None, first[1]})
        assert gateway.pids()[2] == first[2]
        assert restarts() == before + 1
        assert file.exists()
        assert await gateway.stop() == 0
    assert gateway.pids() == {}


async def test_a_worker_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(parent, "REPLY_SECONDS", 0.01)
    # Long enough for the test to see the first worker.
    monkeypatch.setattr(parent, "HUNG_SECONDS", 0.5)
    async with running_parent(monkeypatch, SERVES) as gateway:
        # None of these workers replies to probes.
        first = await eventually(lambda: gateway.pids().get(1))
        await eventually(lambda: gateway.pids().get(1) not in {None, first})


async def test_a_worker_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "STOP_SECONDS", 0.05)
    ignore_sigterm = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    program = ignore_sigterm + SERVES
    async with running_parent(monkeypatch, program) as gateway:
        pids = await gateway.wait_until_ready()
        assert await gateway.stop() == 0
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("code", [1, 2])
async def test_the_gateway_ends_if_its_first_worker_cannot_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    program = f"open({str(tmp_path / 'starts')!r}, 'a').write('1'); raise SystemExit({code})"
    async with running_parent(monkeypatch, program) as gateway:
        assert await gateway.running == code
    # Only the first worker was started.
    assert (tmp_path / "starts").read_text() == "1"


async def test_the_gateway_ends_when_no_worker_can_be_started_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    program = f"import os\nif os.path.exists({str(broken)!r}): os._exit(2)\n" + SERVES
    async with running_parent(monkeypatch, program) as gateway:
        pids = await gateway.wait_until_ready()
        broken.touch()
        os.kill(pids[1], signal.SIGKILL)
        await eventually(lambda: 1 in gateway.parent._failed)
        # The other worker continues. A worker that serves again no longer counts as failed.
        broken.unlink()
        await gateway.wait_until_ready()
        assert gateway.parent._failed == set()
        broken.touch()
        for pid in gateway.pids().values():
            os.kill(pid, signal.SIGKILL)
        assert await gateway.running == 2


async def test_the_parent_forwards_counts_to_the_other_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running_parent(monkeypatch, SERVES) as gateway:
        await gateway.wait_until_ready()
        one, two = gateway.parent._workers.values()
        sent: list[Any] = []
        monkeypatch.setattr(one, "send", lambda _message: sent.append("its own count"))
        monkeypatch.setattr(two, "send", sent.append)
        gateway.parent._on_message(one, Counted("request", "read"))
        assert sent == [Counted("request", "read")]


def test_the_delay_of_restarts_doubles_up_to_a_limit() -> None:
    assert [parent._delay(attempts) for attempts in (1, 2, 3, 4, 50)] == [0.0, 0.25, 0.5, 1.0, 10.0]


async def test_the_parents_metrics_have_no_worker_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "REPLY_SECONDS", 0.05)
    async with running_parent(monkeypatch, SERVES) as gateway:
        await gateway.wait_until_ready()
        text = (await gateway.parent.collected()).text().decode()
    assert "hogsend_gateway_workers 2.0" in text
    assert "hogsend_gateway_workers_up 2.0" in text
