"""`POST /v1/admin/analytics/provision-loop`: set up PostHog's deliveries (contract 1.2)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from litestar import MediaType, Response, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter

from hogsend.contract.base import Empty
from hogsend.contract.health import PROVISIONER_HEALTH
from hogsend.contract.provisioning import (
    PROVISIONER_PROVISION,
    Destination,
    Provisioned,
    ProvisionLoop,
    ProvisionReply,
    Unsigned,
)
from hogsend.transport.connection import Connection
from services.gateway.auth import ADMIN_SECURITY, admin_only
from services.gateway.error_responses import RefusalBody, admin_errors, refusal_response
from services.gateway.query_keys import OTHERS_IGNORED
from services.gateway.signing_keys import SigningKeys
from services.gateway.webhooks.secret import WebhookSecret

PROBE_SECONDS = 2.0
"""Timeout of the probe before a run."""


class ProvisionedBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The destination in PostHog after the run."""

    provisioned: Literal[True] = True
    created: bool
    """Whether the destination is new; the same as `action` `created`."""
    action: Literal["created", "updated", "unchanged"]
    hog_function_id: str
    """Id of the destination in PostHog, where it is a Hog function."""
    webhook_url: str
    """URL that PostHog delivers to."""
    dashboard_url: str
    """URL of the destination's page in PostHog."""
    enabled: bool
    """Whether PostHog delivers to it. False for a placeholder."""
    other_instances: list[Destination] | msgspec.UnsetType = msgspec.UNSET
    """Destinations in the same project that deliver to other instances, which may no longer exist.
    They are not changed."""
    signed: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether PostHog signs its deliveries. Absent for a placeholder."""
    unsigned_because: Unsigned | msgspec.UnsetType = msgspec.UNSET
    """Why PostHog does not sign. `unsupported`: this PostHog cannot. `custom_program`: the program
    of the destination was changed in PostHog. `no_key`: there is no signing key, or it cannot be
    read. `not_provisioned`: provisioning again turns signatures on."""


@post(
    "/v1/admin/analytics/provision-loop",
    status_code=200,
    guards=[admin_only],
    operation_id="provisionLoop",
    summary="Create or repair the destination in PostHog",
    tags=["Admin"],
    security=ADMIN_SECURITY,
    opt={OTHERS_IGNORED: True},
    responses={
        200: ResponseSpec(ProvisionedBody, description="PostHog delivers to this instance."),
        409: ResponseSpec(RefusalBody, description="This instance lacks a prerequisite."),
        **admin_errors(400, 502),
    },
)
async def provision_loop(
    bus: NamedDependency[Connection],
    *,
    webhook_secret: NamedDependency[WebhookSecret],
    signing_keys: NamedDependency[SigningKeys],
    signatures_required: NamedDependency[bool],
    placeholder: Annotated[
        Literal["true", "false"],
        QueryParameter(
            description="Only create a disabled destination, which a later request completes."
        ),
    ] = "false",
    rotate_signing_key: Annotated[
        Literal["true", "false"],
        QueryParameter(
            name="rotateSigningKey",
            description="Generate a new signing key for PostHog. The previous key stays valid for "
            "a day.",
        ),
    ] = "false",
    rotate_webhook: Annotated[
        Literal["true", "false"],
        QueryParameter(
            name="rotateWebhookSecret",
            description="Generate a new webhook secret for PostHog. The previous secret is "
            "accepted for a day.",
        ),
    ] = "false",
    project_id: Annotated[
        str | None,
        QueryParameter(
            name="projectId",
            pattern=r"^[A-Za-z0-9-]{1,64}$(?!\n)",
            description="Id of the project to use, if neither `POSTHOG_PROJECT_ID` nor the OAuth "
            "grant determines one. It is stored, and used from then on.",
        ),
    ] = None,
) -> Response[ProvisionedBody | RefusalBody]:
    """Create or repair the webhook destination in PostHog. A repeated request changes nothing."""
    run = ProvisionLoop(
        placeholder=placeholder == "true",
        signatures_required=signatures_required,
        rotate_signing_key=rotate_signing_key == "true",
        rotate_webhook_secret=rotate_webhook == "true",
        project_id=project_id,
    )
    reply = await _provision(bus, run)
    if reply.provisioned is None:
        return refusal_response(reply.refusal)
    # The run may have generated a secret, which must be enforced before the response is sent.
    await webhook_secret.refresh()
    await signing_keys.renew()
    return Response(_provisioned(reply.provisioned), media_type=MediaType.JSON)


async def _provision(bus: Connection, run: ProvisionLoop) -> ProvisionReply:
    """Probe the provisioner, then send the request. No run is started after the client got 503.

    Raises:
        Unavailable: the provisioner does not run, or stopped before it replied.
    """
    await bus.request(PROVISIONER_HEALTH, Empty(), deadline=PROBE_SECONDS)
    return await bus.request(PROVISIONER_PROVISION, run)


def _provisioned(outcome: Provisioned) -> ProvisionedBody:
    return ProvisionedBody(
        created=outcome.action == "created",
        action=outcome.action,
        hog_function_id=outcome.hog_function_id,
        webhook_url=outcome.webhook_url,
        dashboard_url=outcome.dashboard_url,
        enabled=outcome.enabled,
        other_instances=outcome.other_instances or msgspec.UNSET,
        signed=msgspec.UNSET if outcome.signed is None else outcome.signed,
        unsigned_because=outcome.unsigned_because or msgspec.UNSET,
    )
