"""Adapts the time range of each query of a backfill to the density of the events.

PostHog reads and sorts all events in the time range of a query, with all selected columns, before
it applies the limit (PostHog/posthog#30695, #59342). A query for the first events of a year would
read the whole year, again for each page. It may run out of time or memory, and what it reads counts
against the project's hourly limit.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec

from hogsend.posthog.api.queries import EventRange, Page
from services.provisioner.backfill.job import Job

MIN_LENGTH = timedelta(minutes=1)
"""Shortest time range. A shorter one would not be cheaper, because each query has a fixed cost."""
SHORTEN_FACTOR = 4


class Span:
    """The length of a query's time range, with about as many events as a page."""

    def __init__(self, job: Job, page_events: int) -> None:
        self._whole = job.until - job.since
        self._length = self._whole
        if job.total > page_events:
            self._length = self._bounded(self._whole * (page_events / job.total))

    def next_range(self, job: Job) -> EventRange:
        """Return the events of a backfill to query next."""
        remaining = job.remaining
        start = remaining.since if remaining.after is None else remaining.after[0]
        if self._length >= job.until - start:
            return remaining
        return msgspec.structs.replace(remaining, until=start + self._length)

    def shorten(self) -> None:
        """Shorten the time range after a query that was too expensive for PostHog."""
        self._length = self._bounded(self._length / SHORTEN_FACTOR)

    def adapt(self, queried: EventRange, page: Page, limit: int) -> None:
        """Lengthen the time range after a page with fewer events than the limit, else shorten it.

        Args:
            queried: the events that were queried.
            page: the result.
            limit: limit of events in the query.
        """
        if len(page.events) + page.unreadable < limit:
            self._length = self._bounded(self._length * 2)
        elif page.events:
            start = queried.since if queried.after is None else queried.after[0]
            # Twice the time that this page covers.
            doubled = (page.events[-1].timestamp - start) * 2
            self._length = self._bounded(min(self._length, doubled))

    def _bounded(self, length: timedelta) -> timedelta:
        return max(MIN_LENGTH, min(length, self._whole))
