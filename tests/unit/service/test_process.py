"""A service's process does not import the command line's libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.running_stack import PYTHONPATH

IMPORTED = """
import sys, services.__main__, services.{service}.app
print(*(name for name in ("rich", "cyclopts", "cli") if sys.modules.get(name)))
"""


@pytest.mark.parametrize("service", ["gateway", "ingest"])
def test_a_service_does_not_import_the_command_lines_libraries(service: str) -> None:
    program = IMPORTED.format(service=service)
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == []
