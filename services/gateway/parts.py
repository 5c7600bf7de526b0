"""The gateway's long-lived objects, which routes and background tasks share."""

from __future__ import annotations

from dataclasses import dataclass

from hogsend.contract.credentials import POSTHOG
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings.shared import PostHogSettings
from hogsend.transport.connection import Connection
from services.gateway.settings import GatewaySettings
from services.gateway.signing_keys import SigningKeys
from services.gateway.webhooks.secret import WebhookSecret
from services.gateway.webhooks.size_limit import SizeLimit
from services.gateway.webhooks.spool.spool import Spool
from services.gateway.webhooks.webhook_queue import WebhookQueue
from services.gateway.workers.identity import WorkerIdentity
from services.gateway.workers.link import Workers


@dataclass(frozen=True)
class Parts:
    """The settings, and the objects that are built from them."""

    bus: Connection
    settings: GatewaySettings
    posthog: PostHogSettings
    watcher: CredentialWatcher
    webhook_secret: WebhookSecret
    signing_keys: SigningKeys
    size: SizeLimit
    spool: Spool | None
    queue: WebhookQueue
    workers: Workers


def build_parts(
    bus: Connection,
    settings: GatewaySettings,
    posthog: PostHogSettings,
    worker: WorkerIdentity | None = None,
) -> Parts:
    """Build the shared objects of a gateway.

    Args:
        bus: connection for publishes and requests.
        settings: the gateway's settings, or a worker's share of them.
        posthog: the settings of PostHog.
        worker: which worker this process is; None for a gateway of one process.
    """
    spool = (
        Spool(settings.spool_dir, settings.spool_max_bytes) if settings.spool_max_bytes else None
    )
    queue = WebhookQueue(bus, spool, settings.webhook_ack_timeout_ms / 1000)
    watcher = CredentialWatcher(POSTHOG)
    secret = posthog.posthog_webhook_secret
    return Parts(
        bus=bus,
        settings=settings,
        posthog=posthog,
        watcher=watcher,
        webhook_secret=WebhookSecret(
            bus,
            watcher,
            secret.get_secret_value() if secret else None,
            settings.spool_dir / "webhook-secret.json",
            previous=[
                earlier.get_secret_value() for earlier in settings.posthog_webhook_secret_previous
            ],
            may_be_open=settings.webhook_open,
        ),
        signing_keys=SigningKeys.of(bus, watcher, settings, posthog),
        size=SizeLimit(bus, settings.webhook_max_bytes),
        spool=spool,
        queue=queue,
        workers=Workers(queue, worker, settings.gateway_workers) if worker else Workers(queue),
    )
