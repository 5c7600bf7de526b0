"""What a module makes once is made in one worker of pytest-xdist (see `tests/conftest.py`)."""

from __future__ import annotations

import os

import pytest

IN_GROUPS = os.environ.get("PYTEST_XDIST_WORKER") is not None


@pytest.fixture(scope="module")
def made_once() -> object:
    return object()


@pytest.mark.usefixtures("made_once")
def test_tests_that_share_what_is_made_once_are_one_group(request: pytest.FixtureRequest) -> None:
    assert not IN_GROUPS or request.node.nodeid.endswith("@test_groups")
