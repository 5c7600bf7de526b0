"""What to do about a part of the server that is not up."""

from __future__ import annotations

from cli.health import Part

_COMPONENTS = {
    "bus": "start NATS, or see in its log why JetStream takes nothing; until then the gateway "
    "keeps webhooks in its spool",
    "redis": "start Redis, or correct the server's REDIS_URL",
    "database": "start PostgreSQL, or correct DATABASE_URL; the services go on by themselves",
    "worker": "start the server's worker",
}
_WAITED_FOR = {
    "webhook secret": "every webhook is answered 503: start the credentials service, and ask "
    "`hogsend doctor` with the admin key whether there is a secret that can be read",
    "new webhook secret": "every webhook is answered 503, since there was a secret and there is "
    "none: run `hogsend connect posthog`, or set POSTHOG_WEBHOOK_SECRET; WEBHOOK_OPEN=true accepts "
    "webhooks from everybody",
    "readable webhook secret": "every webhook is answered 503: put the earlier secret into "
    "BETTER_AUTH_SECRET_PREVIOUS; or run `hogsend disconnect posthog`, then `hogsend connect "
    "posthog`",
    "spool": "every webhook is answered 503: start NATS, or set SPOOL_MAX_BYTES so that webhooks "
    "are kept until it is back",
    "room in the spool": "webhooks are answered 429, which PostHog tries again for a while only: "
    "mend what keeps JetStream from taking them (`bus` above); until then make room on the disk of "
    "the spool, or raise SPOOL_MAX_BYTES and restart the gateway",
}
COPIES_REMEDY = (
    "start every NATS server, with NATS_URL, NATS_REPLICAS and the servers of one layout "
    "(docs/deploy.md); copies that are missing are made by themselves"
)
WORKERS_REMEDY = (
    "see in the gateway's log why a worker ends; it is started again by itself, and the others "
    "work meanwhile"
)
SIZE_REMEDY = (
    "raise max_payload in nats-server's configuration (deploy/nats/single.conf has it), or set "
    "WEBHOOK_MAX_BYTES to that size if no event is larger"
)
_NOBODY_ANSWERED = {
    "database": "no service answered that would know: start the services, and NATS before them",
}
UNASKED = "it cannot be asked before NATS answers"


def too_small(limit: int) -> str:
    """Say what becomes of webhooks that are larger than the bus takes."""
    return (
        f"webhooks of more than {limit} bytes are answered 413 and lost: NATS takes no larger ones"
    )


def remedy(name: str, part: Part) -> str:
    """Return what to do about a part that is not up, in one sentence."""
    if part.status == "unknown":
        return _NOBODY_ANSWERED.get(name, UNASKED)
    if part.waits_for in _WAITED_FOR:
        return _WAITED_FOR[part.waits_for]
    if part.database not in {None, "up"} and (part.status == "up" or part.waits_for is not None):
        return _COMPONENTS["database"]
    if part.waits_for is not None:
        # A sentence, which its line has: what the service tried last, and why it failed.
        return (
            f"{name} goes on by itself once that is over; its log (.hogsend/logs/{name}.log) says "
            "what it tries"
        )
    return _COMPONENTS.get(
        name,
        f"start the {name} service, or restart one that hangs; its log (.hogsend/logs/{name}.log) "
        "says why",
    )
