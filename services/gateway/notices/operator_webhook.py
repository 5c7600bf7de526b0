"""Composes the background task that sends notices to the operator's webhook."""

from __future__ import annotations

from hogsend.posthog.signing import key_of
from hogsend.service.http import http_client
from hogsend.service.settings.shared import OutboundSettings
from hogsend.service.ssrf import EgressPolicy
from hogsend.service.tasks import Work
from hogsend.transport.connection import Connection
from services.gateway.notices.outbox import Outbox
from services.gateway.notices.sender import NoticeSender
from services.gateway.notices.watcher import NoticeWatcher
from services.gateway.notices.watches import watches
from services.gateway.settings import GatewaySettings
from services.gateway.workers.link import Workers


def operator_webhook(
    link: Connection, workers: Workers, settings: GatewaySettings, outbound: OutboundSettings
) -> list[Work]:
    """Return the task that sends notices, or no task if no operator webhook is configured."""
    url, secret = settings.operator_webhook_url, settings.operator_webhook_secret
    if url is None or secret is None:
        return []
    watched = watches(link, workers, failing_seconds=settings.operator_webhook_failing_seconds)

    async def send_notices() -> None:
        policy = EgressPolicy.of(outbound.outbound_allow, url)
        async with http_client(policy, proxies=outbound.proxies) as http:
            outbox, key = Outbox(settings.spool_dir), key_of(secret.get_secret_value())
            await NoticeWatcher(
                link, outbox, watched, NoticeSender(outbox, http, url=url, key=key)
            ).run()

    return [send_notices]
