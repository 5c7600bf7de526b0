"""The documents that are made from the code say what the code says."""

from __future__ import annotations

import subprocess
import sys

from docs.generate import ROOT


def test_generated_documents_are_up_to_date() -> None:
    # In a process of its own, where no other test has made routes.
    command = [sys.executable, "-m", "docs.generate", "--check"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (ran.returncode, ran.stdout) == (0, "")
