"""Checks that JetStream's streams fit on the disk of the data directory."""

from __future__ import annotations

import shutil
from pathlib import Path

from cli.console import err, print_hanging
from hogsend.contract.streams import GIB, Limits


def warn_if_scarce(directory: Path, limits: Limits) -> None:
    """Print a note if the disk has less free space than the streams may take."""
    free, needed = shutil.disk_usage(directory).free, limits.total_bytes()
    if free < needed:
        print_hanging(
            err,
            ("note: ", "yellow"),
            f"{directory} has {free / GIB:.1f} GiB of free space, but the streams may take "
            f"{needed / GIB:.1f} GiB: lower NATS_STREAM_MAX_BYTES, or set HOGSEND_HOME to a "
            "directory on a larger disk",
        )
