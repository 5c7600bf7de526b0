"""The default destination: the email funnel and contact changes (contract 6.1).

It has no key or host of its own and captures in the instance's project. So a rotated
`POSTHOG_API_KEY` or a changed `POSTHOG_HOST` needs no update of its row.
"""

from __future__ import annotations

import msgspec
import structlog

from hogsend.contract.destinations import CreateDestination
from hogsend.contract.engagement import FUNNEL
from hogsend.contract.errors import HogsendError
from hogsend.service.metrics import FAILURES
from services.analytics.destinations.model import Destination, read_config
from services.analytics.destinations.store import DestinationStore
from services.analytics.project_key import ProjectKey

log = structlog.get_logger(__name__)

SENTINEL_URL = "posthog://capture"
"""Placeholder; no request is sent to it."""
SYNC_PERSONS = "syncPersons"

DEFAULT_DESTINATION = CreateDestination(
    url=SENTINEL_URL,
    kind="posthog",
    event_types=list(FUNNEL),
    config={"eventNames": {"email.clicked": "email.link_clicked"}, SYNC_PERSONS: True},
)


class DefaultDestination:
    """Creates the default destination, or completes it, once there is a project key."""

    def __init__(self, store: DestinationStore, project_key: ProjectKey, *, enabled: bool) -> None:
        """Store it in `store`; `enabled` is ENABLE_POSTHOG_DESTINATION."""
        self._store = store
        self._project_key = project_key
        self._enabled = enabled

    async def ensure(self) -> bool:
        """Create or complete it if there is a project key; False when this must be retried."""
        if not self._enabled:
            return True
        try:
            if await self._project_key.project() is None:
                return False
            outcome = await self._store.ensure_default(DEFAULT_DESTINATION, with_missing_defaults)
        except HogsendError as error:
            FAILURES.labels("default_destination", error.code).inc()
            log.warning("default destination not created yet", reason=str(error))
            return False
        log.info("default destination", outcome=outcome)
        return True


def with_missing_defaults(stored: Destination) -> Destination:
    """Add missing default event types and settings; values that an operator set are not changed."""
    missing = [type for type in FUNNEL if type not in stored.event_types]
    given = stored.given if SYNC_PERSONS in stored.given else {**stored.given, SYNC_PERSONS: True}
    return msgspec.structs.replace(
        stored,
        event_types=[*stored.event_types, *missing],
        given=given,
        config=read_config(given),
    )
