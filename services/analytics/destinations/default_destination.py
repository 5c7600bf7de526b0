"""The default destination: the email funnel and contact changes (contract 6.1).

It stores no key and no host of its own and captures wherever the instance does. So a rotated
`POSTHOG_API_KEY` or a changed `POSTHOG_HOST` needs no update of the row.
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

DEFAULT_DESTINATION = CreateDestination(
    url=SENTINEL_URL,
    kind="posthog",
    event_types=list(FUNNEL),
    config={"eventNames": {"email.clicked": "email.link_clicked"}, SYNC: True},
)


class DefaultDestination:
    """Creates the default destination, or completes it, once there is a project key."""

    def __init__(self, store: DestinationStore, project_key: ProjectKey, *, enabled: bool) -> None:
        """Keep it in `store`; `enabled` is ENABLE_POSTHOG_DESTINATION."""
        self._store = store
        self._project_key = project_key
        self._enabled = enabled

    async def ensure(self) -> bool:
        """Create or complete it if that is possible now; True when nothing is left to do."""
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
    """Add the default event types and settings that are missing; what an operator set stays."""
    missing = [type for type in FUNNEL if type not in stored.event_types]
    given = stored.given if SYNC in stored.given else {**stored.given, SYNC: True}
    return msgspec.structs.replace(
        stored,
        event_types=[*stored.event_types, *missing],
        given=given,
        config=read_config(given),
    )
