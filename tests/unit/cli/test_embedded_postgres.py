"""Stale servers, and file permissions of PostgreSQL's system user."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from pathlib import Path

import psutil
import pytest

from cli.stack.postgres import make_private
from cli.stack.postgres_permissions import make_traversable
from cli.stack.stale_postgres import stop_stale_server
from tests.waiting import eventually


def test_parents_of_the_data_directory_become_traversable_but_not_readable(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    data = closed / "data"
    data.mkdir(mode=0o700)
    assert closed in make_traversable(data)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o711
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert make_traversable(data) == []


def test_a_pid_file_whose_process_id_was_reused_is_removed(tmp_path: Path) -> None:
    pid_file = tmp_path / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{tmp_path}\n")
    stop_stale_server(tmp_path)
    assert not pid_file.exists()


def test_a_stale_postgresql_server_is_stopped(tmp_path: Path) -> None:
    # `stop_stale_server` checks the name and the working directory, so any program named postgres
    # will do.
    program = tmp_path / "postgres"
    program.symlink_to("/bin/sleep")
    old = subprocess.Popen([str(program), "100"], cwd=tmp_path)
    try:
        asyncio.run(eventually(lambda: psutil.Process(old.pid).name() == "postgres"))
        (tmp_path / "postmaster.pid").write_text(f"{old.pid}\n")
        stop_stale_server(tmp_path)
        assert not psutil.pid_exists(old.pid)
    finally:
        old.kill()
        old.wait()


def test_a_socket_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "real"
    target.mkdir()
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(PermissionError):
        make_private(link)
