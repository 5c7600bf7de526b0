"""Provisioning: creates and diagnoses the destination in PostHog that delivers events here."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from hogsend.contract.base import Empty, Message
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User

Action = Literal["created", "updated", "unchanged"]


Unsigned = Literal["unsupported", "custom_program", "no_key", "not_provisioned"]
"""Why deliveries are not signed.

`unsupported`: this PostHog cannot sign. `custom_program`: the destination's program was changed in
PostHog, and does not sign. `no_key`: no key is set, and none may be generated, or the generated one
cannot be read. `not_provisioned`: provisioning again would turn signatures on.
"""


class ProvisionLoop(Message, frozen=True):
    """Make PostHog deliver its events to this instance."""

    placeholder: bool = False
    """Only create a disabled destination, to be completed later; never change an existing one."""
    signatures_required: bool = False
    """Fail if deliveries could not be signed, because the gateway refuses unsigned ones."""
    rotate_signing_key: bool = False
    """Make PostHog sign with a new generated key. The previous key stays valid for a day."""
    rotate_webhook_secret: bool = False
    """Make PostHog send a new generated secret. The previous secret stays valid for a day."""
    project_id: str | None = None
    """The project to provision. Needed if `POSTHOG_PROJECT_ID` is not set and the grant covers
    several projects. It is stored, and captures and reads use it as well."""


class Destination(Message, frozen=True):
    """A webhook destination in PostHog that delivers to a Hogsend instance."""

    hog_function_id: str
    """Id of the destination in PostHog, where it is a Hog function."""
    webhook_url: str
    """URL that PostHog delivers to."""
    dashboard_url: str | None = None
    """URL of the destination's page in PostHog; None from the previous version."""


class Provisioned(Message, frozen=True):
    """The provisioned destination, and how it was changed (contract 1.2)."""

    action: Action
    hog_function_id: str
    webhook_url: str
    dashboard_url: str
    enabled: bool
    other_instances: list[Destination] = []
    """Destinations in the same project that deliver to other instances, running or not. They are
    not changed."""
    signed: bool | None = None
    """Whether deliveries are signed with a key that Hogsend has; None from the previous version."""
    unsigned_because: Unsigned | None = None


class Refusal(Message, frozen=True):
    """Why provisioning failed."""

    reason: Literal["precondition", "posthog"]
    """`precondition`: something is missing here (409). `posthog`: PostHog refused the request or
    is unreachable (502)."""
    code: str
    detail: str | None = None
    remediation: str | None = None


class ProvisionReply(Message, frozen=True):
    """The result of provisioning. Exactly one of both is set."""

    provisioned: Provisioned | None = None
    refusal: Refusal | None = None


class GrantedProject(Message, frozen=True):
    """A PostHog project that the grant covers."""

    id: str
    name: str | None = None
    """The project's name in PostHog; None if PostHog did not return it."""


class GrantedProjects(Message, frozen=True):
    """The projects to choose from. Empty if the grant names none and PostHog did not respond."""

    projects: list[GrantedProject]


class Finding(Message, frozen=True, kw_only=True):
    """The state of one part of the integration, and what to do about a problem."""

    detail: str | None = None
    """The problem, in words; None if there is none."""
    remediation: str | None = None
    """What an operator can do; None if nothing is to be done."""


class CredentialFinding(Finding, frozen=True, kw_only=True):
    """The stored OAuth grant."""

    state: Literal["present", "absent", "unreadable", "needs_reconnect", "unknown"]
    """`unknown` if the service `credentials` does not reply."""
    scopes: list[str] = []
    expires_at: datetime | None = None
    refresh_failing: bool = False


class ReadsFinding(Finding, frozen=True, kw_only=True):
    """Whether persons can be read, checked by reading one."""

    state: Literal["working", "failing", "off", "unknown"]
    """`off`: neither a grant nor `POSTHOG_PERSONAL_API_KEY` allows reads. `unknown`: it could not
    be checked."""
    through: Literal["oauth", "personal_key", "none"]
    """The credential that reads use. `personal_key`: `POSTHOG_PERSONAL_API_KEY`."""


class SecretFinding(Finding, frozen=True, kw_only=True):
    """The secret that PostHog's deliveries must carry."""

    state: Literal["present", "absent", "unreadable", "unknown"]
    """`unreadable`: it cannot be decrypted. `unknown`: the service `credentials` does not reply."""
    source: Literal["environment", "minted", "none"]
    """`environment`: `POSTHOG_WEBHOOK_SECRET`. `minted`: provisioning generated it."""


class DestinationFinding(Finding, frozen=True, kw_only=True):
    """The destination of this instance in PostHog."""

    state: Literal[
        "live",
        "degraded",
        "disabled",
        "disabled_by_posthog",
        "drifted",
        "placeholder",
        "elsewhere",
        "missing",
        "unknown",
    ]
    """`live`: PostHog delivers to this instance. `degraded`: PostHog delivers late, because
    deliveries failed or were slow. `disabled`: disabled in PostHog by a member of the project.
    `disabled_by_posthog`: disabled by PostHog. `drifted`: differs from what this instance needs.
    `placeholder`: created disabled, to be completed by provisioning. `elsewhere`: only other
    instances have destinations. `missing`: PostHog has no destination. `unknown`: it could not be
    checked."""
    stopped: bool | None = False
    """Whether a change in PostHog or here stopped the deliveries of a destination that worked.

    Distinguishes a fault from an intended change in the states `drifted`, `missing` and
    `elsewhere`. None if unknown, because the stored destination or PostHog could not be read.
    """
    hog_function_id: str | None = None
    """Id of the destination in PostHog, where it is a Hog function."""
    webhook_url: str | None = None
    """URL that PostHog delivers to."""
    dashboard_url: str | None = None
    """URL of the destination's page in PostHog."""
    others: list[Destination] = []
    """Enabled destinations that deliver to other instances, running or not."""
    duplicates: list[Destination] = []
    """Further enabled destinations of this instance, such as a copy that was made in PostHog."""
    signed: bool | None = None
    """Whether deliveries are signed with a key that Hogsend has; None if unknown."""
    unsigned_because: Unsigned | None = None
    """Why PostHog does not sign. `unsupported`: this PostHog cannot. `custom_program`: the program
    of the destination was changed in PostHog. `no_key`: there is no signing key, or it cannot be
    read. `not_provisioned`: provisioning again turns signatures on."""


class PublicUrlFinding(Finding, frozen=True, kw_only=True):
    """The URL that PostHog is configured to deliver to."""

    url: str
    """`API_PUBLIC_URL`."""
    loopback: bool
    """Whether the URL is one of this machine, which PostHog cannot reach."""


class ProvisioningFinding(Finding, frozen=True, kw_only=True):
    """Whether provisioning would pass its preconditions."""

    state: Literal["possible", "refused", "unknown"]
    code: str | None = None
    """Code of the refusal that provisioning would end with (contract 1.2 and 2.7)."""


class Diagnosis(Message, frozen=True):
    """The state of every part of the integration that an operator may have to act on."""

    private_host: str | None
    credential: CredentialFinding
    person_reads: ReadsFinding
    webhook_secret: SecretFinding
    destination: DestinationFinding
    scope_gap: list[str]
    public_url: PublicUrlFinding
    provisioning: ProvisioningFinding
    posthog_now: datetime | None = None
    """PostHog's present time, to find a clock that is wrong; None if its responses had none."""


PROVISIONER_PROVISION = Endpoint(
    service=User.PROVISIONER,
    verb="provision",
    request=ProvisionLoop,
    reply=ProvisionReply,
    callers=(User.GATEWAY,),
    summary="Make PostHog deliver its events here. Repeating the request is safe.",
    deadline=60.0,
    changes=True,
)
PROVISIONER_DIAGNOSE = Endpoint(
    service=User.PROVISIONER,
    verb="diagnose",
    request=Empty,
    reply=Diagnosis,
    callers=(User.GATEWAY,),
    summary="Diagnose the integration with PostHog, with a remediation for each problem.",
    deadline=20.0,
)
PROVISIONER_PROJECTS = Endpoint(
    service=User.PROVISIONER,
    verb="projects",
    request=Empty,
    reply=GrantedProjects,
    callers=(User.GATEWAY,),
    summary="The projects that the grant covers, with their names.",
    deadline=10.0,
)
