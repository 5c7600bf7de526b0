"""How much time one query of a backfill looks at.

PostHog reads all events of the times that a query names, with everything that is selected, and
sorts them before it takes the first ones (PostHog/posthog#30695, #59342). Asked for the first
events of a year, it reads the year, once for every page; it may run out of time or memory, and what
it reads counts against what a project may have read in an hour.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from hogsend.posthog.api.queries import EventRange, Page
from services.provisioner.backfill.store import Job

LEAST = timedelta(minutes=1)
"""A query has some work of its own, however little time it looks at."""
SHORTER_WHEN_SLOW = 4


class Span:
    """A length of time that has about as many events as a page."""

    def __init__(self, job: Job, page_events: int) -> None:
        self._whole = job.until - job.since
        self._length = self._whole
        if job.total > page_events:
            self._length = self._bounded(self._whole * (page_events / job.total))

    def of(self, job: Job) -> EventRange:
        """Return the next events of a backfill that are to be asked for."""
        rest = job.rest
        start = rest.since if rest.after is None else rest.after[0]
        if self._length >= job.until - start:
            return rest
        return msgspec.structs.replace(rest, until=start + self._length)

    def shorten(self) -> None:
        """It was too much for PostHog."""
        self._length = self._bounded(self._length / SHORTER_WHEN_SLOW)

    def fit(self, asked: EventRange, page: Page, limit: int) -> None:
        """Look at more or less next time, by what was there."""
        if len(page.events) + page.unreadable < limit:
            self._length = self._bounded(self._length * 2)
        elif page.events:
            start = asked.since if asked.after is None else asked.after[0]
            twice = (page.events[-1].timestamp - start) * 2
            self._length = self._bounded(min(self._length, twice))

    def _bounded(self, length: timedelta) -> timedelta:
        return max(LEAST, min(length, self._whole))
