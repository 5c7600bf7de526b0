"""A process that served HTTP exits without finalizing Python."""

from __future__ import annotations

import subprocess
import sys

import granian
import pytest

from cli import main
from hogsend.service import process_end

PROGRAM = """
import logging, logging.handlers, sys
from hogsend.service.process_end import end_process

class Held:
    def __del__(self):
        sys.stderr.write("finalized")

held = Held()
handler = logging.handlers.MemoryHandler(100, target=logging.StreamHandler(sys.stderr))
logging.getLogger().addHandler(handler)
logging.getLogger().warning("logged")
sys.stdout.write("printed")
end_process(3)
"""


def test_logs_and_output_are_flushed_and_no_finalizer_runs() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "printed", "logged\n")


def test_a_command_that_served_http_exits_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setitem(sys.modules, "granian", granian)
    monkeypatch.setattr(process_end, "end_process", ended.append)
    monkeypatch.setattr(sys, "argv", ["hogsend", "--version"])
    with pytest.raises(SystemExit):
        main.main()
    assert ended == [0]
