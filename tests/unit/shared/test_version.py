"""The version: written in one file, and read from there by packages, commands and documents."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hogsend

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("project", [ROOT, ROOT / "shared"])
def test_both_packages_have_the_version_of_the_library(project: Path) -> None:
    metadata = tomllib.loads((project / "pyproject.toml").read_text())
    assert metadata["project"]["dynamic"] == ["version"]
    source = (project / metadata["tool"]["hatch"]["version"]["path"]).resolve()
    assert source == ROOT / "shared" / "hogsend" / "_version.py"
    assert f'__version__ = "{hogsend.__version__}"' in source.read_text()


def test_the_command_prints_the_version_of_the_library() -> None:
    command = [sys.executable, "-m", "cli.main", "--version"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert output.strip() == hogsend.__version__


def test_the_asyncapi_document_has_the_version_of_the_library() -> None:
    document = json.loads((ROOT / "docs" / "asyncapi.json").read_text())
    assert document["info"]["version"] == hogsend.__version__


def test_the_changelog_has_an_entry_for_this_version() -> None:
    headings = [
        line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")
    ]
    assert hogsend.__version__ in headings[0]
