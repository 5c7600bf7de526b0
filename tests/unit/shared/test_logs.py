"""What every log line carries; in a process of its own, as logging is configured only once."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging
import structlog
from hogsend.service import logs
from hogsend.service.settings.shared import TelemetrySettings
from hogsend.transport.correlation import correlation_id

logs.configure("gateway", TelemetrySettings(log_format="json"))
log = structlog.get_logger()
log.info("before")
correlation_id.set("r-1")
log.info("within")
logging.getLogger("a.library").warning("theirs")
log.info("explicit", correlation_id="r-2")
"""


def test_a_line_carries_the_correlation_id_of_its_context() -> None:
    run = subprocess.run((sys.executable, "-c", PROGRAM), capture_output=True, check=True)
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [line.get("correlation_id") for line in lines] == [None, "r-1", "r-1", "r-2"]
    assert {line["service"] for line in lines} == {"gateway"}
