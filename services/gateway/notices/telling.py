"""Puts together the parts that notify the operator's webhook."""

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


def telling(
    link: Connection, workers: Workers, settings: GatewaySettings, outbound: OutboundSettings
) -> list[Work]:
    """Make what tells the operator's webhook; nothing where there is none."""
    url, secret = settings.operator_webhook_url, settings.operator_webhook_secret
    if url is None or secret is None:
        return []
    found = watches(link, workers, failing_seconds=settings.operator_webhook_failing_seconds)

    async def tell() -> None:
        policy = EgressPolicy.of(outbound.outbound_allow, url)
        async with http_client(policy, proxies=outbound.proxies) as http:
            outbox, key = Outbox(settings.spool_dir), key_of(secret.get_secret_value())
            await NoticeWatcher(
                link, outbox, found, NoticeSender(outbox, http, url=url, key=key)
            ).run()

    return [tell]
