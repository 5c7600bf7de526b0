"""Node.js tools that some tests run; `make node-tools` installs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def needs_node_tools(directory: Path) -> pytest.MarkDecorator:
    """Skip a test if the tools of `directory` are not installed; in CI the test fails instead.

    Args:
        directory: contains the `package.json` of the tools.
    """
    # npm writes this file at the end of an installation.
    installed = (directory / "node_modules" / ".package-lock.json").exists()
    return pytest.mark.skipif(
        not os.environ.get("CI") and not installed,
        reason=f"tools of Node.js in {directory.name} are missing: make node-tools (needs npm)",
    )
