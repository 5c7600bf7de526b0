"""`deploy/nats/start.sh` never starts nats-server on the data of another layout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "deploy" / "nats" / "start.sh"
REFUSED = 78


@pytest.fixture
def data(tmp_path: Path) -> Path:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    server = binaries / "nats-server"
    server.write_text('#!/bin/sh\necho "$@"\n')
    server.chmod(0o755)
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


def start(
    data: Path, *words: str, layout: str = "single", server: str = "nats", port: str = "4222"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), *words],
        env={
            "PATH": f"{data.parent / 'bin'}:{os.environ['PATH']}",
            "DATA": str(data),
            "LAYOUT": layout,
            "SERVER_NAME": server,
            "CLIENT_PORT": port,
            "REFUSED_SECONDS": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("layout", "mark", "other"),
    [
        ("single", "single-accounts", "cluster-accounts"),
        ("single", "single-accounts", "cluster"),
        ("cluster-accounts", "cluster-accounts", "single"),
        ("cluster-accounts", "cluster-accounts", "cluster"),
        ("cluster", "cluster", "single"),
    ],
)
def test_an_empty_data_directory_gets_the_mark_of_its_layout_and_keeps_it(
    data: Path, layout: str, mark: str, other: str
) -> None:
    started = start(data, layout=layout)
    assert started.stdout == f"--config /etc/nats/{layout}.conf --port 4222\n"
    assert start(data, layout=layout).returncode == 0
    assert start(data, "which").stdout == f"{mark}\n"
    refused = start(data, layout=other)
    assert refused.returncode == REFUSED
    assert refused.stdout == ""
    assert f"are of the layout {mark}" in refused.stderr
    assert f"hogsend compose layout {other.removesuffix('-accounts')}" in refused.stderr
    assert start(data, "which").stdout == f"{mark}\n"


def test_a_server_with_marked_data_starts_on_a_full_disk(data: Path) -> None:
    assert start(data).returncode == 0
    # The script cannot write its temporary file, as on a full disk.
    (data / "layout.new").mkdir()
    assert start(data).stdout == "--config /etc/nats/single.conf --port 4222\n"


STREAMS = Path("streams") / "EVENTS"


@pytest.mark.parametrize("marked", [True, False])
def test_streams_of_a_single_server_move_from_the_shared_account_to_their_own(
    data: Path, marked: bool
) -> None:
    shared, own = (data / "jetstream" / name for name in ("$G", "HOGSEND"))
    (shared / STREAMS).mkdir(parents=True)
    if marked:
        (data / "layout").write_text("single\n")
    assert start(data).returncode == 0
    assert (own / STREAMS).is_dir()
    assert not shared.exists()
    # The previous version does not know this layout, so it refuses to start on the moved streams.
    assert start(data, "which").stdout == "single-accounts\n"
    assert start(data).returncode == 0
    assert start(data, "one-account").returncode == 0
    assert (shared / STREAMS).is_dir()
    assert not own.exists()
    assert start(data, "which").stdout == "single\n"


@pytest.mark.parametrize("words", [(), ("one-account",)])
def test_streams_of_two_accounts_are_not_mixed(data: Path, words: tuple[str, ...]) -> None:
    for account in ("$G", "HOGSEND"):
        (data / "jetstream" / account / STREAMS).mkdir(parents=True)
    (data / "layout").write_text("single-accounts\n" if words else "single\n")
    refused = start(data, *words)
    assert refused.returncode == REFUSED
    assert "streams of two accounts" in refused.stderr


def test_a_cluster_with_a_shared_account_keeps_it_until_its_streams_are_moved(
    data: Path,
) -> None:
    (data / "layout").write_text("cluster\n")
    started = start(data, layout="cluster")
    assert started.stdout == "--config /etc/nats/cluster.conf --port 4222\n"
    assert "fix: run hogsend compose layout cluster" in started.stderr
    refused = start(data, layout="cluster-accounts")
    assert refused.returncode == REFUSED
    assert "in the account that all NATS users share" in refused.stderr
    assert start(data, "one-account").returncode == REFUSED
    assert start(data, "which").stdout == "cluster\n"


@pytest.mark.parametrize(
    ("existing", "layout", "other"),
    [
        ("jetstream/$SYS/_js_/_meta_", "cluster", "single"),
        ("jetstream/$G/streams", "single", "cluster"),
    ],
)
def test_unmarked_data_of_an_earlier_version_are_recognised(
    data: Path, existing: str, layout: str, other: str
) -> None:
    (data / existing).mkdir(parents=True)
    assert start(data, layout=other).returncode == REFUSED
    assert start(data, layout=layout).returncode == 0


def test_a_second_server_does_not_start_in_the_single_layout(data: Path) -> None:
    refused = start(data, server="nats-2")
    assert refused.returncode == REFUSED
    assert not (data / "layout").exists()


def test_during_a_move_the_server_starts_only_on_the_port_of_the_move(data: Path) -> None:
    (data / "jetstream").mkdir()
    (data / "jetstream" / "stream").touch()
    start(data)
    assert start(data, "set-aside", "before-today").returncode == 0
    assert (data / "before-today" / "jetstream" / "stream").exists()
    assert not (data / "jetstream").exists()
    for layout in ("single", "cluster", "cluster-accounts"):
        refused = start(data, layout=layout)
        assert refused.returncode == REFUSED
        assert "not all are here" in refused.stderr
    moving = start(data, layout="cluster-accounts", port="14222")
    assert moving.stdout == "--config /etc/nats/cluster-accounts.conf --port 14222\n"
    # The everyday port stays closed until the move has settled the layout.
    assert start(data, layout="cluster-accounts").returncode == REFUSED
    start(data, "settle", "cluster-accounts")
    assert start(data, layout="cluster-accounts").returncode == 0
    start(data, "set-aside", "before-tomorrow")
    start(data, "leave")
    assert start(data, "which").stdout == ""


def test_data_that_are_set_aside_again_keep_the_mark_of_their_layout(data: Path) -> None:
    """A move that was interrupted at a later server continues, and repeats this step."""
    (data / "jetstream").mkdir()
    start(data)
    for _ in range(2):
        assert start(data, "set-aside", "before-today").returncode == 0
    assert (data / "before-today" / "layout").read_text() == "single-accounts\n"
    assert start(data).returncode == REFUSED
