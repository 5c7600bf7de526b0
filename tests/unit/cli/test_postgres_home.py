"""What a killed stack leaves on its data directory, and what PostgreSQL's own user may pass."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from cli.stack.handover import open_way_to
from cli.stack.postgres import make_private
from cli.stack.predecessor import retire


def test_a_way_is_opened_for_passing_through_and_not_for_reading(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    data = closed / "data"
    data.mkdir(mode=0o700)
    assert closed in open_way_to(data)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o711
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert open_way_to(data) == []


def test_a_process_id_of_somebody_else_does_not_block_the_data(tmp_path: Path) -> None:
    pid_file = tmp_path / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{tmp_path}\n")
    retire(tmp_path)
    assert not pid_file.exists()


def test_an_old_server_is_stopped_first(tmp_path: Path) -> None:
    # Anything called postgres that works in the data directory is what a killed stack leaves.
    program = tmp_path / "postgres"
    program.symlink_to("/bin/sleep")
    old = subprocess.Popen([str(program), "100"], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 10
        while psutil.Process(old.pid).name() != "postgres" and time.monotonic() < deadline:
            pass
        (tmp_path / "postmaster.pid").write_text(f"{old.pid}\n")
        retire(tmp_path)
        assert not psutil.pid_exists(old.pid)
    finally:
        old.kill()
        old.wait()


def test_a_private_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "real"
    target.mkdir()
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(PermissionError):
        make_private(link)
