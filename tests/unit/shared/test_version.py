"""The version is written once, and everything that names it reads it there."""

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
def test_both_packages_are_built_with_the_librarys_version(project: Path) -> None:
    read = tomllib.loads((project / "pyproject.toml").read_text())
    assert read["project"]["dynamic"] == ["version"]
    source = (project / read["tool"]["hatch"]["version"]["path"]).resolve()
    assert source == ROOT / "shared" / "hogsend" / "_version.py"
    assert f'__version__ = "{hogsend.__version__}"' in source.read_text()


def test_the_command_says_the_librarys_version() -> None:
    command = [sys.executable, "-m", "cli.main", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said.strip() == hogsend.__version__


def test_the_asyncapi_document_says_the_librarys_version() -> None:
    document = json.loads((ROOT / "docs" / "asyncapi.json").read_text())
    assert document["info"]["version"] == hogsend.__version__


def test_the_changelog_has_an_entry_for_this_version() -> None:
    headings = [
        line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## [")
    ]
    assert hogsend.__version__ in headings[0]
