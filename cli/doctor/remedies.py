"""Fixes for parts of the server that are not up."""

from __future__ import annotations

from cli.health import Part
from cli.service_logs import log_of

_COMPONENTS = {
    "bus": "start NATS; if it runs, its log and the gateway's have the reason why JetStream "
    "refuses webhooks, such as a full disk; until then the gateway keeps webhooks in its spool",
    "redis": "start Redis, or correct the server's REDIS_URL",
    "database": "start PostgreSQL, or correct DATABASE_URL; the services then reconnect",
    "worker": "start the server's worker",
}
_WAITING = {
    "webhook secret": "every webhook gets a 503: start the credentials service; `hogsend doctor` "
    "with the admin key then shows whether there is a readable secret",
    "new webhook secret": "every webhook gets a 503, because there is no webhook secret: run "
    "`hogsend connect posthog`, or set POSTHOG_WEBHOOK_SECRET; or set WEBHOOK_OPEN=true to accept "
    "webhooks from any sender",
    "readable webhook secret": "every webhook gets a 503: set BETTER_AUTH_SECRET_PREVIOUS to the "
    "earlier secret; or run `hogsend disconnect posthog`, then `hogsend connect posthog`",
    "spool": "every webhook gets a 503: start NATS; or set SPOOL_MAX_BYTES, so that webhooks are "
    "spooled until NATS is back",
    "room in the spool": "webhooks get a 429, which PostHog retries for a limited time: fix `bus` "
    "above, so that JetStream accepts them; until then free space on the disk of the spool, or "
    "raise SPOOL_MAX_BYTES and restart the gateway",
}
"""Fixes for a service that waits, by `waitsFor` in the health document."""
REPLICAS_REMEDY = (
    "start every NATS server, with NATS_URL, NATS_REPLICAS and the servers of the same layout "
    "(docs/deploy.md); NATS then creates the missing replicas"
)
WORKERS_REMEDY = (
    "see the gateway's log for why a worker process ends; it is restarted automatically, and the "
    "others handle requests meanwhile"
)
SIZE_REMEDY = (
    "raise max_payload in nats-server's configuration (as in deploy/nats/single.conf), or set "
    "WEBHOOK_MAX_BYTES to that size if no event is larger"
)
_UNKNOWN = {
    "database": "no service could report it: start NATS, then the services",
}
UNKNOWN_REMEDY = "start NATS: without it the gateway cannot reach this service"


def webhook_limit_warning(limit: int) -> str:
    """Return the warning that NATS does not accept webhooks above `limit` bytes."""
    return (
        f"webhooks of more than {limit} bytes get a 413 and are lost: NATS accepts no larger "
        "messages"
    )


def remedy(name: str, part: Part) -> str:
    """Return the fix for a part that is not up, as one sentence."""
    if part.status == "unknown":
        return _UNKNOWN.get(name, UNKNOWN_REMEDY)
    if part.waits_for in _WAITING:
        return _WAITING[part.waits_for]
    if part.database not in {None, "up"} and (part.status == "up" or part.waits_for is not None):
        return _COMPONENTS["database"]
    if part.waits_for is not None:
        # The line above has the sentence: what the service tried last, and why it failed.
        return f"{name} continues by itself once that is fixed; see its log ({log_of(name)})"
    return _COMPONENTS.get(
        name,
        f"start the {name} service, or restart it if it hangs; see its log ({log_of(name)})",
    )
