"""The documents that are generated from the code are up to date."""

from __future__ import annotations

import subprocess
import sys

from docs.generate import ROOT


def test_generated_documents_are_up_to_date() -> None:
    # In a separate process: other tests create routes in this one.
    command = [sys.executable, "-m", "docs.generate", "--check"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (process.returncode, process.stdout) == (0, "")
