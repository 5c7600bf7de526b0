"""Tests that share a module's fixture run in one worker of pytest-xdist (`tests/conftest.py`)."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="module")
def module_fixture() -> object:
    return object()


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="there is one worker only")
@pytest.mark.usefixtures("module_fixture")
def test_tests_that_share_a_fixture_of_a_module_are_in_one_group(
    request: pytest.FixtureRequest,
) -> None:
    assert request.node.nodeid.endswith("@test_groups")
