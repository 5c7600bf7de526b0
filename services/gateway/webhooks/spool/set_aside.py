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
    """The files that were set aside, by all processes that use a spool."""

    def __init__(self, spool: Path) -> None:
        """Use the directory of that name in the spool's."""
        self._directory = spool / NAME

    def count(self) -> int:
        """Count them.

        Raises:
            OSError: the directory cannot be read.
        """
        return len(list(self._directory.iterdir())) if self._directory.is_dir() else 0

    def take(self, paths: Iterable[Path]) -> None:
        """Move files here; one whose name is taken gets a number behind it.

        Raises:
            OSError: one cannot be moved.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        for path in paths:
            target, number = self._directory / path.name, 0
            while target.exists():
                number += 1
                target = self._directory / f"{path.name}.{number}"
            path.rename(target)


def say_damaged(path: Path, places: int, reason: str = "damaged") -> None:
    """Count and log places of a file that cannot be read."""
    DAMAGED.inc(places)
    metrics.FAILURES.labels("spool", "damaged").inc()
    log.error(
        "a file of the spool is damaged: webhooks in it may be lost. Everything that can be "
        "read is published, then the file is kept in SPOOL_DIR/set-aside; "
        "`hogsend spool read` shows what is left of the rest.",
        file=path.name,
        places=places,
        reason=reason,
    )
