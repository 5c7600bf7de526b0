"""Tools of Node.js that tests run; `make node-tools` fetches them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def needs_node_tools(directory: Path) -> pytest.MarkDecorator:
    """Skip where the tools of a directory are not installed; in CI they must be.

    Args:
        directory: the one with their `package.json`.
    """
    # npm writes it last.
    installed = (directory / "node_modules" / ".package-lock.json").exists()
    return pytest.mark.skipif(
        not os.environ.get("CI") and not installed,
        reason=f"tools of Node.js in {directory.name} are missing: make node-tools (needs npm)",
    )
