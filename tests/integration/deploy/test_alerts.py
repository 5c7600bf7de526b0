"""The alert rules in Prometheus' own tool, which takes its time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.deploy.test_grafana import GRAFANA, PROVOKED

PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian's prometheus) is not installed")
def test_each_alert_fires_when_it_should_and_none_on_a_quiet_day(tmp_path: Path) -> None:
    shutil.copy(GRAFANA / "alerts.yaml", tmp_path)
    provoked = shutil.copy(PROVOKED, tmp_path)
    for arguments in (
        ["check", "rules", str(tmp_path / "alerts.yaml")],
        ["check", "config", "--syntax-only", str(GRAFANA / "prometheus.yaml")],
        ["test", "rules", str(provoked)],
    ):
        done = subprocess.run(
            [str(PROMTOOL), *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
