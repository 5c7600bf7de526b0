"""Whether JetStream's streams fit on the disk of the data directory."""

from __future__ import annotations

import shutil
from pathlib import Path

from cli.console import err
from hogsend.contract.streams import GIB, Limits


def warn_if_scarce(directory: Path, limits: Limits) -> None:
    """Print a note when the disk has less space left than the streams may take."""
    free, needed = shutil.disk_usage(directory).free, limits.total_bytes()
    if free < needed:
        err.print(
            f"[yellow]note:[/] {directory} has {free / GIB:.1f} GiB left, and streams may take "
            f"{needed / GIB:.1f}: set NATS_STREAM_MAX_BYTES lower, or HOGSEND_HOME to a larger disk"
        )
