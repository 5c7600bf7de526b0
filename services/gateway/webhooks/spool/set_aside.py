"""`SPOOL_DIR/set-aside`: damaged files, kept for `hogsend spool read`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import structlog
from prometheus_client import Counter

from hogsend.service import metrics

log = structlog.get_logger(__name__)

DAMAGED = Counter("hogsend_spool_damaged", "Places in files of the spool that cannot be read")
NAME = "set-aside"


class SetAside:
    """The directory of damaged files, shared by all processes that use one spool directory."""

    def __init__(self, spool: Path) -> None:
        """Use `set-aside` below the spool's directory; it is created when first needed."""
        self._directory = spool / NAME

    def count(self) -> int:
        """Return how many files it contains.

        Raises:
            OSError: the directory cannot be read.
        """
        return len(list(self._directory.iterdir())) if self._directory.is_dir() else 0

    def move_here(self, paths: Iterable[Path]) -> None:
        """Move files into the directory. A number is appended to a name that is already used.

        Raises:
            OSError: a file cannot be moved.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for path in paths:
            target, number = self._directory / path.name, 0
            while target.exists():
                number += 1
                target = self._directory / f"{path.name}.{number}"
            path.rename(target)


def report_damage(path: Path, places: int, reason: str = "damaged") -> None:
    """Count and log the places of a file that cannot be read."""
    DAMAGED.inc(places)
    metrics.FAILURES.labels("spool", "damaged").inc()
    log.error(
        "a file of the spool is damaged: webhooks in it may be lost. Everything that can be "
        "read is published, then the file is kept in SPOOL_DIR/set-aside; "
        "`hogsend spool read` shows what can still be read of it.",
        file=path.name,
        places=places,
        reason=reason,
    )
