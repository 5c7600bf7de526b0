"""What starts nats-server in a deployment: never on the data of another layout."""

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


@pytest.mark.parametrize("layout", ["single", "cluster"])
def test_empty_data_take_the_layout_and_keep_it(data: Path, layout: str) -> None:
    started = start(data, layout=layout)
    assert started.stdout == f"--config /etc/nats/{layout}.conf --port 4222\n"
    assert start(data, layout=layout).returncode == 0
    assert start(data, "which").stdout == f"{layout}\n"
    (other,) = {"single", "cluster"} - {layout}
    refused = start(data, layout=other)
    assert refused.returncode == REFUSED
    assert refused.stdout == ""
    assert f"are of the layout {layout}" in refused.stderr
    assert f"hogsend compose layout {other}" in refused.stderr


@pytest.mark.parametrize(
    ("made", "layout", "other"),
    [
        ("jetstream/$SYS/_js_/_meta_", "cluster", "single"),
        ("jetstream/$G/streams", "single", "cluster"),
    ],
)
def test_data_of_a_version_that_left_no_mark_are_recognised(
    data: Path, made: str, layout: str, other: str
) -> None:
    (data / made).mkdir(parents=True)
    assert start(data, layout=other).returncode == REFUSED
    assert start(data, layout=layout).returncode == 0


def test_a_second_server_does_not_start_beside_a_single_one(data: Path) -> None:
    refused = start(data, server="nats-2")
    assert refused.returncode == REFUSED
    assert not (data / "layout").exists()


def test_between_two_layouts_only_who_moves_gets_a_server(data: Path) -> None:
    (data / "jetstream").mkdir()
    (data / "jetstream" / "stream").touch()
    start(data)
    assert start(data, "set-aside", "before-today").returncode == 0
    assert (data / "before-today" / "jetstream" / "stream").exists()
    assert not (data / "jetstream").exists()
    for layout in ("single", "cluster"):
        refused = start(data, layout=layout)
        assert refused.returncode == REFUSED
        assert "not all are here" in refused.stderr
    moving = start(data, layout="cluster", port="14222")
    assert moving.stdout == "--config /etc/nats/cluster.conf --port 14222\n"
    # Still not for everybody: it is not settled.
    assert start(data, layout="cluster").returncode == REFUSED
    start(data, "settle", "cluster")
    assert start(data, layout="cluster").returncode == 0
    start(data, "set-aside", "before-tomorrow")
    start(data, "leave")
    assert start(data, "which").stdout == ""
