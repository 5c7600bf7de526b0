"""Errors of provisioning, each with a remediation for the operator (contract 1.2 and 2.7)."""

from __future__ import annotations

import json
import re
from enum import Enum, auto

import httpx

from hogsend.contract.errors import GrantReplaced
from hogsend.contract.provisioning import Refusal, Unsigned
from hogsend.contract.webhooks import SECRET_HEADER
from hogsend.posthog.errors import PostHogError, PostHogTimeout, PostHogUnreachable
from hogsend.posthog.project_choice import DENIED, ProjectChoice
from services.provisioner.destination.drift import BODY, METHOD

NO_CREDENTIAL = "no_posthog_credential"
PROJECT_NOT_OPEN = "project_not_open"
NOT_CONFIGURED = "posthog_not_configured"
FORBIDDEN = 403
UNREACHABLE_URL = "api_public_url_unreachable"
CANNOT_SIGN = "webhook_signatures_unsupported"
CANNOT_ROTATE = "signing_key_not_rotatable"
NO_SECRET = "webhook_secret_missing"  # noqa: S105 - a code

OPEN_ROUTE_REMEDY = (
    "Generate a random secret, set POSTHOG_WEBHOOK_SECRET to it on the api and the worker, "
    "redeploy, then run `hogsend connect posthog --provision-only`."
)
UNAUTHORIZED_REMEDY = (
    "Run `hogsend connect posthog` again, or check that POSTHOG_PERSONAL_API_KEY is valid and "
    "belongs to this PostHog instance."
)
SCOPES_REMEDY = (
    "The credential lacks a scope: it needs hog_function:write and project:read, and person:read "
    "and person:write for persons. Run `hogsend connect posthog` again and grant them; for a "
    "personal API key, edit its scopes in PostHog."
)
DISCOVERY_REMEDY = (
    "Set POSTHOG_PROJECT_ID to the id in your PostHog project's URL, check POSTHOG_HOST and "
    "POSTHOG_PRIVATE_HOST, then run `hogsend connect posthog --provision-only`."
)
RETRY_REMEDY = (
    "PostHog answered something unexpected. Check the status and detail above, then run "
    "`hogsend connect posthog --provision-only` again."
)

RERUN = "then run `hogsend connect posthog --provision-only` again."
SLOW_REMEDY = (
    "PostHog did not answer in time. Nothing has to be set: see whether PostHog works, and whether "
    f"the network lets the provisioner reach it; {RERUN}"
)
UNREACHABLE_REMEDY = (
    "Check POSTHOG_HOST and POSTHOG_PRIVATE_HOST, and that DNS, proxy and firewall let the "
    f"provisioner reach PostHog there; {RERUN}"
)
IN_POSTHOG_REMEDY = f"Open the destination in PostHog, and fix there what the detail names; {RERUN}"
REDIRECT_REMEDY = (
    "PostHog is at another address: set POSTHOG_PRIVATE_HOST to the one that it redirects to; "
    f"{RERUN}"
)
FAILED_REMEDY = (
    "PostHog itself failed. Nothing has to be set: see its status page, or the log of your own "
    f"PostHog; {RERUN}"
)
NO_CURRENT_REMEDY = (
    "If PostHog works otherwise, set POSTHOG_PROJECT_ID to the id in your PostHog project's URL: "
    f"PostHog is then not asked which project is current; {RERUN}"
)
NOT_REFRESHED_DETAIL = "PostHog has not refreshed the access token yet"
NOT_REFRESHED_REMEDY = (
    "Nothing has to be set: it is tried again every minute. See whether PostHog works, and whether "
    f"the network lets the credentials service reach it; {RERUN}"
)

_UNSIGNED: dict[Unsigned, tuple[str, str]] = {
    "unsupported": (
        "the webhook template of this PostHog has no signing secret.",
        "Upgrade PostHog to a version whose webhook destinations have a signing secret.",
    ),
    "custom_program": (
        "the destination's program was changed in PostHog, and does not sign.",
        "In PostHog, reset the destination to its template, or delete it and have it made anew.",
    ),
    "no_key": (
        "POSTHOG_SIGNING_SECRET is not set, and POSTHOG_MINT_WEBHOOK_SECRET allows no other key.",
        "Set POSTHOG_SIGNING_SECRET on gateway and provisioner, to `openssl rand -base64 32`.",
    ),
    "not_provisioned": (
        "the destination has no signing key yet.",
        "Run `hogsend connect posthog --provision-only`.",
    ),
}
_BY_STATUS = {401: UNAUTHORIZED_REMEDY, 403: SCOPES_REMEDY}

# posthog/api/hog_function.py names the add-on in a 400; newer versions add how to upgrade.
_PLAN = re.compile(r"data[ -]pipelines?\b.*\b(add-?on|required|upgrade)", re.IGNORECASE | re.DOTALL)


class ProvisioningError(Exception):
    """Provisioning failed; `refusal` is the reply to the caller."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class Step(Enum):
    """The request that PostHog refused: the meaning of a status depends on the request."""

    PROJECT = auto()
    COLLECTION = auto()
    FUNCTION = auto()


def cannot_sign(reason: Unsigned | None) -> ProvisioningError:
    """The gateway requires signatures, and PostHog would not sign deliveries (409)."""
    detail, remedy = _UNSIGNED[reason or "unsupported"]
    return precondition_failed(
        CANNOT_SIGN,
        f"WEBHOOK_SIGNATURES is `required`, and deliveries would not be signed: {detail}",
        f"{remedy} Or set WEBHOOK_SIGNATURES to `verify` on the gateway; {RERUN}",
    )


def cannot_rotate(reason: Unsigned | None, *, configured: bool) -> ProvisioningError:
    """No generated signing key is in use, so none can be rotated (409)."""
    if configured:
        return precondition_failed(
            CANNOT_ROTATE,
            "The signing key is POSTHOG_SIGNING_SECRET, which only you can change.",
            "Put the present one into POSTHOG_SIGNING_SECRET_PREVIOUS of the gateway, and a new "
            "one into POSTHOG_SIGNING_SECRET of gateway and provisioner; then run `hogsend connect "
            "posthog --provision-only`.",
        )
    detail, remedy = _UNSIGNED[reason or "unsupported"]
    return precondition_failed(CANNOT_ROTATE, f"Deliveries are not signed: {detail}", remedy)


def with_refresh_reason(error: ProvisioningError, reason: str | None) -> ProvisioningError:
    """Add to a refused credential that the stored grant is going to be refreshed.

    Args:
        error: PostHog refused the grant's last token, or the personal API key used instead of it.
        reason: why the grant is not refreshed at the moment; None if it is, and `error` is
            returned unchanged.
    """
    refusal = error.refusal
    if reason is None or refusal.code not in {"unauthorized", "missing-scope"}:
        return error
    return _posthog_error(
        refusal.code,
        f"{refusal.detail} {NOT_REFRESHED_DETAIL}: {reason}.",
        f"{NOT_REFRESHED_REMEDY} If it stays so: {refusal.remediation}",
    )


def grant_replaced() -> ProvisioningError:
    """The grant that a run started with is not the stored one any more (409)."""
    return precondition_failed(
        GrantReplaced.code,
        "PostHog was connected again while this ran, or the credential was deleted: it stopped "
        "before it changed anything else.",
        "Run `hogsend connect posthog --provision-only` for the project that is connected now.",
    )


def precondition_failed(
    code: str, detail: str | None = None, remediation: str | None = None
) -> ProvisioningError:
    """A precondition on this instance does not hold (409)."""
    return ProvisioningError(
        Refusal(reason="precondition", code=code, detail=detail, remediation=remediation)
    )


def missing_secret() -> ProvisioningError:
    """There is no webhook secret: PostHog would deliver to an open route."""
    return _posthog_error(
        "missing-webhook-secret",
        "There is no webhook secret, so the ingest route would accept events from any sender.",
        OPEN_ROUTE_REMEDY,
    )


def no_project_id() -> ProvisioningError:
    """PostHog's response for the project has no id."""
    return _posthog_error(
        "project-discovery-failed",
        "PostHog's response for the project has no id.",
        DISCOVERY_REMEDY,
    )


def no_function_id() -> ProvisioningError:
    """PostHog created a destination but did not return its id."""
    return _posthog_error(
        "api-error", "PostHog created a destination but answered without its id.", RETRY_REMEDY
    )


def from_posthog(
    error: PostHogError, step: Step, webhook_url: str, choice: ProjectChoice
) -> ProvisioningError:
    """Translate an error response of PostHog to one request into the contract's code (2.7)."""
    detail = describe(error)
    if error.status in DENIED and not choice.is_covered:
        code = "missing-scope" if error.status == FORBIDDEN else "project-discovery-failed"
        return _posthog_error(code, f"{choice.mismatch} {detail}", choice.remedy)
    if error.status == httpx.codes.NOT_FOUND and step is Step.PROJECT and choice.id is not None:
        detail = f"{choice.missing} {detail}"
        return _posthog_error("project-discovery-failed", detail, choice.missing_remedy)
    return _from_status(error, detail, step, webhook_url, choice)


def remedy_of(error: PostHogError, choice: ProjectChoice) -> str | None:
    """Return the remedy of an error that means the same at each step; None for other errors."""
    if (project_remedy := choice.refusal_remedy(error, f"Or: {SCOPES_REMEDY}")) is not None:
        return project_remedy
    if isinstance(error, PostHogUnreachable):
        return SLOW_REMEDY if isinstance(error, PostHogTimeout) else UNREACHABLE_REMEDY
    status = error.status or 0
    if status == httpx.codes.TOO_MANY_REQUESTS:
        wait = f"{error.retry_after:.0f} seconds" if error.retry_after else "a minute"
        return f"PostHog limits requests. Wait {wait}; {RERUN}"
    if httpx.codes.is_redirect(status):
        return REDIRECT_REMEDY
    return _BY_STATUS.get(status, FAILED_REMEDY if httpx.codes.is_server_error(status) else None)


def _from_status(
    error: PostHogError, detail: str, step: Step, webhook_url: str, choice: ProjectChoice
) -> ProvisioningError:
    remedy = remedy_of(error, choice)
    match error.status, step:
        case 401, _:
            return _posthog_error("unauthorized", detail, UNAUTHORIZED_REMEDY)
        case 403, _:
            return _posthog_error("missing-scope", detail, remedy or SCOPES_REMEDY)
        case status, Step.PROJECT:
            if status is not None and httpx.codes.is_server_error(status) and choice.id is None:
                remedy = f"{remedy} {NO_CURRENT_REMEDY}"
            return _posthog_error("project-discovery-failed", detail, remedy or DISCOVERY_REMEDY)
        case 404, Step.COLLECTION:
            remedy = (
                f"This PostHog has no hog functions API: upgrade it, or {manual_setup(webhook_url)}"
            )
            return _posthog_error("unsupported-instance", detail, remedy)
    if needs_add_on(error):
        return _posthog_error(
            "api-error",
            "The plan of this PostHog organization does not include the data pipelines add-on, "
            f"which webhook destinations need. {detail}",
            "Subscribe to the data pipelines add-on in PostHog's billing settings and run "
            f"`hogsend connect posthog --provision-only` again, or {manual_setup(webhook_url)}",
        )
    if is_about_destination(error):
        remedy = IN_POSTHOG_REMEDY
    return _posthog_error("api-error", detail, remedy or RETRY_REMEDY)


def is_about_destination(error: PostHogError) -> bool:
    """Whether PostHog refused a part of the destination that an operator has changed, and named it.

    For example filters with a cohort that cannot be run, or a draft that is not published.
    """
    field = (error.attr or "").partition("__")[0]
    return error.status == httpx.codes.BAD_REQUEST and field in {"filters", "enabled"}


def needs_add_on(error: PostHogError) -> bool:
    """Whether PostHog refused because the organization's plan has no data pipelines."""
    return error.status == 400 and _PLAN.search(error.detail) is not None  # noqa: PLR2004


def describe(error: PostHogError) -> str:
    """Describe an error by its HTTP status and PostHog's detail."""
    if error.status is None:
        return f"{error.detail}."
    return f"PostHog answered {error.status}" + (f": {error.detail}" if error.detail else ".")


def manual_setup(webhook_url: str) -> str:
    """Describe how to create the destination by hand, without showing the secret."""
    return (
        f"set up the webhook manually wherever your plan allows it: {METHOD} to {webhook_url}, "
        f"header {SECRET_HEADER} with the value of POSTHOG_WEBHOOK_SECRET (set one if it is "
        "unset: a generated secret is not shown), header Content-Type: application/json, body "
        f"{json.dumps(BODY, separators=(',', ':'))}."
    )


def _posthog_error(code: str, detail: str, remediation: str) -> ProvisioningError:
    return ProvisioningError(
        Refusal(reason="posthog", code=code, detail=detail, remediation=remediation)
    )
