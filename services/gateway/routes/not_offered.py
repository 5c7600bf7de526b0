"""Routes of upstream Hogsend that this product does not have. They are answered 501.

This product sends no emails, runs no journeys and counts no referrals. Upstream's command and
client still request these routes. An empty answer would hide that the feature is missing, and 404
would look like a wrong id. The error says what to use instead.
"""

from __future__ import annotations

from typing import NamedTuple

from litestar import route
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.types import Guard

from services.gateway.auth import admin_or_reader, reporters_only
from services.gateway.query_keys import ANY_QUERY

METHODS = (
    HttpMethod.GET,
    HttpMethod.POST,
    HttpMethod.PUT,
    HttpMethod.PATCH,
    HttpMethod.DELETE,
)

NO_EMAILS = (
    "no emails are sent from here: send them with the service you have, and report them with "
    '`client.engagement.report("email.sent", ...)`'
)
NO_JOURNEYS = (
    "there is no journey engine here: a journey is a service of yours that subscribes to its "
    'trigger, `client.events("signed_up", durable="welcome")`'
)
NO_IMPORT = (
    "there is no import from files here: send each person with PUT /v1/contacts; "
    "`hogsend backfill` brings events from PostHog"
)


class NotOfferedError(Exception):
    """A feature of the upstream Hogsend that this product does not have.

    The message says what to do instead.
    """


class NotOffered(NamedTuple):
    """A feature of upstream Hogsend that this product does not have."""

    path: str
    alternative: str
    """The error message, which says what to use instead."""


NOT_OFFERED = (
    NotOffered("/v1/emails", NO_EMAILS),
    NotOffered("/v1/campaigns", NO_EMAILS),
    NotOffered("/v1/admin/domain", NO_EMAILS),
    NotOffered(
        "/v1/lists",
        "there are no mailing lists here: keep subscriptions where the emails are sent, and report "
        'changes with `client.engagement.report("contact.unsubscribed", ...)`',
    ),
    NotOffered("/v1/admin/journeys", NO_JOURNEYS),
    NotOffered("/v1/admin/blueprints", NO_JOURNEYS),
    NotOffered("/v1/admin/contacts/import", NO_IMPORT),
    NotOffered(
        "/v1/admin/suppressions",
        "there is no suppression list here: keep it where the emails are sent",
    ),
    NotOffered(
        "/v1/admin/flags",
        "feature flags are PostHog's: make them there, and read them with POST /v1/flags/evaluate",
    ),
    NotOffered(
        "/v1/groups",
        "groups are PostHog's: name them when you capture, "
        '`client.capture(event, id, groups={"company": "acme"})`',
    ),
    NotOffered(
        "/v1/admin/attribution",
        "conversions are not attributed here: PostHog does, with the events that are captured",
    ),
    NotOffered(
        "/v1/admin/links",
        "there are no tracked links here: report clicks with "
        '`client.engagement.report("link.clicked", ...)`',
    ),
    NotOffered(
        "/v1/referrals",
        "there are no referrals here: report them with "
        '`client.engagement.report("referral.converted", ...)`',
    ),
    NotOffered(
        "/v1/admin/connectors",
        "PostHog is the only product to connect: `hogsend connect posthog`",
    ),
)


def not_offered_routes() -> list[HTTPRouteHandler]:
    """Create the routes. Each one still requires a valid key."""
    return [_refusal(feature) for feature in NOT_OFFERED]


def _refusal(feature: NotOffered) -> HTTPRouteHandler:
    guard: Guard = admin_or_reader if feature.path.startswith("/v1/admin/") else reporters_only

    @route(
        [feature.path, f"{feature.path}/{{rest:path}}"],
        http_method=METHODS,
        guards=[guard],
        include_in_schema=False,
        opt={ANY_QUERY: True},
        name=f"not offered {feature.path}",
    )
    async def refuse() -> None:
        raise NotOfferedError(feature.alternative)

    return refuse
