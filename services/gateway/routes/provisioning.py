"""`POST /v1/admin/analytics/provision-loop`: make PostHog deliver here (contract 1.2)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from litestar import MediaType, Response, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import QueryParameter

from hogsend.contract.provisioning import (
    PROVISIONER_PROVISION,
    Destination,
    Provisioned,
    ProvisionLoop,
    ProvisionReply,
    Unsigned,
)
from hogsend.transport.connection import Connection
from services.gateway import provisioner
from services.gateway.auth import ADMIN_SECURITY, admin_only
from services.gateway.error_responses import RefusalBody, admin_errors, refusal_response
from services.gateway.signing_keys import SigningKeys
from services.gateway.webhooks.secret import WebhookSecret


class ProvisionedBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The destination in PostHog, as it is now."""

    provisioned: Literal[True] = True
    created: bool
    action: Literal["created", "updated", "unchanged"]
    hog_function_id: str
    webhook_url: str
    dashboard_url: str
    enabled: bool
    other_instances: list[Destination] | msgspec.UnsetType = msgspec.UNSET
    """Destinations in the same project that deliver to other instances, or to one that is no more;
    they are not changed."""
    signed: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether what PostHog delivers is signed; left out of a placeholder's answer."""
    unsigned_because: Unsigned | msgspec.UnsetType = msgspec.UNSET


@post(
    "/v1/admin/analytics/provision-loop",
    status_code=200,
    guards=[admin_only],
    operation_id="provisionLoop",
    summary="Make PostHog deliver here",
    tags=["Admin"],
    security=ADMIN_SECURITY,
    responses={
        200: ResponseSpec(ProvisionedBody, description="PostHog delivers here."),
        409: ResponseSpec(RefusalBody, description="Something is missing on this side."),
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
        QueryParameter(description="Only create a disabled destination, to be completed later."),
    ] = "false",
    rotate_signing_key: Annotated[
        Literal["true", "false"],
        QueryParameter(
            name="rotateSigningKey",
            description="Have PostHog sign with a new minted key; the one before counts a day "
            "longer.",
        ),
    ] = "false",
    rotate_webhook: Annotated[
        Literal["true", "false"],
        QueryParameter(
            name="rotateWebhookSecret",
            description="Have PostHog send a new minted secret; the one before is accepted a day "
            "longer.",
        ),
    ] = "false",
    project_id: Annotated[
        str | None,
        QueryParameter(
            name="projectId",
            pattern=r"^[A-Za-z0-9-]{1,64}$(?!\n)",
            description="The project, where neither `POSTHOG_PROJECT_ID` nor the grant leaves only "
            "one. It is stored, and everything else follows it.",
        ),
    ] = None,
) -> Response[ProvisionedBody | RefusalBody]:
    """Create or repair the webhook destination; repeating it changes nothing."""
    wanted = ProvisionLoop(
        placeholder=placeholder == "true",
        signatures_required=signatures_required,
        rotate_signing_key=rotate_signing_key == "true",
        rotate_webhook_secret=rotate_webhook == "true",
        project_id=project_id,
    )
    reply = await _provision(bus, wanted)
    if reply.provisioned is None:
        return refusal_response(reply.refusal)
    # The run may have minted a secret; it must be enforced before the response tells of it.
    await webhook_secret.refresh()
    await signing_keys.renew()
    return Response(_provisioned(reply.provisioned), media_type=MediaType.JSON)


async def _provision(bus: Connection, wanted: ProvisionLoop) -> ProvisionReply:
    """Ask the provisioner, and begin nothing while it does not run.

    Raises:
        Unavailable: the provisioner does not run, or stopped before it answered.
    """
    await provisioner.probe(bus)
    return await provisioner.request(bus, PROVISIONER_PROVISION, wanted)


def _provisioned(done: Provisioned) -> ProvisionedBody:
    return ProvisionedBody(
        created=done.action == "created",
        action=done.action,
        hog_function_id=done.hog_function_id,
        webhook_url=done.webhook_url,
        dashboard_url=done.dashboard_url,
        enabled=done.enabled,
        other_instances=done.other_instances or msgspec.UNSET,
        signed=msgspec.UNSET if done.signed is None else done.signed,
        unsigned_because=done.unsigned_because or msgspec.UNSET,
    )
