"""The alert rules pass the checks and tests of promtool, Prometheus' own tool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.deploy.test_grafana import GRAFANA, PROMTOOL_TESTS

PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian's prometheus) is not installed")
def test_each_alert_fires_under_its_condition_and_none_on_a_quiet_day(tmp_path: Path) -> None:
    shutil.copy(GRAFANA / "alerts.yaml", tmp_path)
    tests = shutil.copy(PROMTOOL_TESTS, tmp_path)
    for arguments in (
        ["check", "rules", str(tmp_path / "alerts.yaml")],
        ["check", "config", "--syntax-only", str(GRAFANA / "prometheus.yaml")],
        ["test", "rules", str(tests)],
    ):
        done = subprocess.run(
            [str(PROMTOOL), *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
