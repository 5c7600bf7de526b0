"""The fields of every log line. In a separate process: logging is configured once per process."""

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
logging.getLogger("a.library").warning("library")
log.info("explicit", correlation_id="r-2")
"""


def test_a_log_line_has_the_correlation_id_of_its_context() -> None:
    process = subprocess.run((sys.executable, "-c", PROGRAM), capture_output=True, check=True)
    lines = [json.loads(line) for line in process.stderr.splitlines()]
    assert [line.get("correlation_id") for line in lines] == [None, "r-1", "r-1", "r-2"]
    assert {line["service"] for line in lines} == {"gateway"}
