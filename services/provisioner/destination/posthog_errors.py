"""Translates error responses of PostHog into errors of provisioning, each with a remediation."""

from __future__ import annotations

import json
import re
from enum import Enum, auto

import httpx

from hogsend.contract.webhooks import SECRET_HEADER
from hogsend.posthog.errors import PostHogError, PostHogTimeout, PostHogUnreachable
from hogsend.posthog.project_choice import DENIED, ProjectChoice
from services.provisioner.destination.drift import BODY, INPUTS, METHOD
from services.provisioner.destination.errors import RERUN, ProvisioningError, posthog_failed
from services.provisioner.destination.signing import SIGNING_INPUT

FORBIDDEN = 403
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
_BY_STATUS = {401: UNAUTHORIZED_REMEDY, 403: SCOPES_REMEDY}

# posthog/api/hog_function.py names the add-on in a 400; newer versions add how to upgrade.
_PLAN = re.compile(r"data[ -]pipelines?\b.*\b(add-?on|required|upgrade)", re.IGNORECASE | re.DOTALL)


class Step(Enum):
    """The request that PostHog refused: the meaning of a status depends on the request."""

    PROJECT = auto()
    COLLECTION = auto()
    FUNCTION = auto()


def no_project_id() -> ProvisioningError:
    """PostHog's response for the project has no id."""
    return posthog_failed(
        "project-discovery-failed",
        "PostHog's response for the project has no id.",
        DISCOVERY_REMEDY,
    )


def no_function_id() -> ProvisioningError:
    """PostHog created a destination but did not return its id."""
    return posthog_failed(
        "api-error", "PostHog created a destination but answered without its id.", RETRY_REMEDY
    )


def from_posthog(
    error: PostHogError, step: Step, webhook_url: str, choice: ProjectChoice
) -> ProvisioningError:
    """Translate an error response of PostHog to one request into the contract's code (2.7)."""
    detail = describe(error)
    if error.status in DENIED and not choice.is_covered:
        code = "missing-scope" if error.status == FORBIDDEN else "project-discovery-failed"
        return posthog_failed(code, f"{choice.mismatch} {detail}", choice.remedy)
    if error.status == httpx.codes.NOT_FOUND and step is Step.PROJECT and choice.id is not None:
        detail = f"{choice.missing} {detail}"
        return posthog_failed("project-discovery-failed", detail, choice.missing_remedy)
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
            return posthog_failed("unauthorized", detail, UNAUTHORIZED_REMEDY)
        case 403, _:
            return posthog_failed("missing-scope", detail, remedy or SCOPES_REMEDY)
        case status, Step.PROJECT:
            if status is not None and httpx.codes.is_server_error(status) and choice.id is None:
                remedy = f"{remedy} {NO_CURRENT_REMEDY}"
            return posthog_failed("project-discovery-failed", detail, remedy or DISCOVERY_REMEDY)
        case 404, Step.COLLECTION:
            remedy = (
                f"This PostHog has no hog functions API: upgrade it, or {manual_setup(webhook_url)}"
            )
            return posthog_failed("unsupported-instance", detail, remedy)
    if needs_add_on(error):
        return posthog_failed(
            "api-error",
            "The plan of this PostHog organization does not include the data pipelines add-on, "
            f"which webhook destinations need. {detail}",
            "Subscribe to the data pipelines add-on in PostHog's billing settings and run "
            f"`hogsend connect posthog --provision-only` again, or {manual_setup(webhook_url)}",
        )
    if is_about_destination(error):
        remedy = IN_POSTHOG_REMEDY
        if (name := _added_input(error)) is not None:
            detail += f" (the input {name})"
    return posthog_failed("api-error", detail, remedy or RETRY_REMEDY)


def is_about_destination(error: PostHogError) -> bool:
    """Whether PostHog refused a part of the destination that an operator has changed, and named it.

    For example filters with a cohort that cannot be run, a draft that is not published, or an input
    that Hogsend does not set.
    """
    field = (error.attr or "").partition("__")[0]
    return error.status == httpx.codes.BAD_REQUEST and (
        field in {"filters", "enabled"} or _added_input(error) is not None
    )


def _added_input(error: PostHogError) -> str | None:
    """Return the input that PostHog refused, if it is not one that Hogsend sets; else None."""
    field, _, path = (error.attr or "").partition("__")
    is_own = path.partition("__")[0] in {*INPUTS, SIGNING_INPUT}
    return path if field == "inputs" and path and not is_own else None


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
