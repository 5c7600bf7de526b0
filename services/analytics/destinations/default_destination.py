"""The destination that is made by itself: the email funnel and contact changes (contract 6.1).

It carries no key and no host of its own, so that a rotated `POSTHOG_API_KEY` or `POSTHOG_HOST`
needs no reconciling: it captures wherever the instance does.
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
"""Never requested."""
SYNC = "syncPersons"

SEED = CreateDestination(
    url=SENTINEL_URL,
    kind="posthog",
    event_types=list(FUNNEL),
    config={"eventNames": {"email.clicked": "email.link_clicked"}, SYNC: True},
)


class Seeding:
    """Seeds once, as soon as there is a project key."""

    def __init__(self, store: DestinationStore, project_key: ProjectKey, *, enabled: bool) -> None:
        """Seed in `store`; `enabled` is ENABLE_POSTHOG_DESTINATION."""
        self._store = store
        self._project_key = project_key
        self._enabled = enabled

    async def attempt(self) -> bool:
        """Seed if it is time to; gives whether there is nothing left to do."""
        if not self._enabled:
            return True
        try:
            if await self._project_key.project() is None:
                return False
            outcome = await self._store.seed("posthog", SEED, brought_up)
        except HogsendError as error:
            FAILURES.labels("seeding", error.code).inc()
            log.warning("destination not seeded yet", reason=str(error))
            return False
        log.info("PostHog destination", outcome=outcome)
        return True


def brought_up(stored: Destination) -> Destination:
    """A seeded destination with what it lacks; whatever somebody chose stays."""
    missing = [type for type in FUNNEL if type not in stored.event_types]
    given = stored.given if SYNC in stored.given else {**stored.given, SYNC: True}
    return msgspec.structs.replace(
        stored,
        event_types=[*stored.event_types, *missing],
        given=given,
        config=read_config(given),
    )
