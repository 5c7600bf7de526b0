"""The subjects that the gateway publishes and subscribes to. Its HTTP routes are in `routes`."""

from __future__ import annotations

from hogsend.contract.audit import ADMIN_REQUEST_AUDITED
from hogsend.contract.credentials import POSTHOG, CredentialChanged
from hogsend.contract.webhooks import WEBHOOK_ACCEPTED, WEBHOOK_ACCEPTED_IN_ORDER
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.injection import Injected
from hogsend.service.router import ServiceRouter

router = ServiceRouter()
router.publishes(WEBHOOK_ACCEPTED, WEBHOOK_ACCEPTED_IN_ORDER, ADMIN_REQUEST_AUDITED)


@router.credential_changes(POSTHOG)
async def credential_changed(
    change: CredentialChanged, watcher: Injected[CredentialWatcher]
) -> None:
    """Request the webhook secret and the signing keys again."""
    watcher.changed(change)
