"""Provisioning: the PostHog destination that delivers events here, created or diagnosed."""

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
PostHog, and signs nothing. `no_key`: none is set, and none may be minted or the minted one cannot
be read. `not_provisioned`: provisioning would turn it on.
"""


class ProvisionLoop(Message, frozen=True):
    """Make PostHog deliver its events to this instance."""

    placeholder: bool = False
    """Only create a disabled destination to fill in later; never change an existing one."""
    signatures_required: bool = False
    """The gateway refuses what is not signed: so does a run that could not have it signed."""
    rotate_signing_key: bool = False
    """Have PostHog sign with a new minted key; the one before counts for another day."""
    rotate_webhook_secret: bool = False
    """Have PostHog send a new minted secret; the one before is accepted for another day."""
    project_id: str | None = None
    """The project, where neither `POSTHOG_PROJECT_ID` nor the grant leaves only one. It is stored:
    everything else follows it."""


class Destination(Message, frozen=True):
    """A webhook destination in PostHog whose path is ours."""

    hog_function_id: str
    webhook_url: str
    dashboard_url: str | None = None
    """Its page in PostHog; None from the version before."""


class Provisioned(Message, frozen=True):
    """The provisioned destination, and what was done to it (contract 1.2)."""

    action: Action
    hog_function_id: str
    webhook_url: str
    dashboard_url: str
    enabled: bool
    other_instances: list[Destination] = []
    """Destinations in the same project that deliver to other instances, or to one that is no more:
    left alone."""
    signed: bool | None = None
    """Whether deliveries are signed with a key that is known here; None from the version before."""
    unsigned_because: Unsigned | None = None


class Refusal(Message, frozen=True):
    """Why provisioning failed."""

    reason: Literal["precondition", "posthog"]
    """A precondition does not hold here (409), or PostHog refused or is unreachable (502)."""
    code: str
    detail: str | None = None
    remediation: str | None = None


class ProvisionReply(Message, frozen=True):
    """Exactly one of both is set."""

    provisioned: Provisioned | None = None
    refusal: Refusal | None = None


class GrantedProject(Message, frozen=True):
    """A project that the grant covers."""

    id: str
    name: str | None = None
    """What it is called in PostHog; None when PostHog did not say."""


class GrantedProjects(Message, frozen=True):
    """Projects to choose one of; none when the grant names none and PostHog did not answer."""

    projects: list[GrantedProject]


class Finding(Message, frozen=True, kw_only=True):
    """The state of one part of the integration, and what to do about a problem."""

    detail: str | None = None
    remediation: str | None = None


class CredentialFinding(Finding, frozen=True, kw_only=True):
    """The stored OAuth grant."""

    state: Literal["present", "absent", "unreadable", "needs_reconnect", "unknown"]
    """`unknown` while the credentials service is down."""
    scopes: list[str] = []
    expires_at: datetime | None = None
    refresh_failing: bool = False


class ReadsFinding(Finding, frozen=True, kw_only=True):
    """Whether persons can be read, checked by reading one."""

    state: Literal["working", "failing", "off", "unknown"]
    through: Literal["oauth", "personal_key", "none"]


class SecretFinding(Finding, frozen=True, kw_only=True):
    """The secret PostHog's deliveries must carry."""

    state: Literal["present", "absent", "unreadable", "unknown"]
    source: Literal["environment", "minted", "none"]


class DestinationFinding(Finding, frozen=True, kw_only=True):
    """Our destination in PostHog."""

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
    stopped: bool | None = False
    """A change in PostHog or here ends the deliveries of a destination that was set up. It is told
    of the states `drifted`, `missing` and `elsewhere`, which can be meant as well. None where that
    is not known: what it is compared with could not be read."""
    hog_function_id: str | None = None
    webhook_url: str | None = None
    dashboard_url: str | None = None
    others: list[Destination] = []
    """Enabled destinations that deliver to another instance, or to one that is no more."""
    duplicates: list[Destination] = []
    """Further enabled destinations of this instance, such as a copy that was made in PostHog."""
    signed: bool | None = None
    """Whether its deliveries are signed with a key that is known here; None when unknown."""
    unsigned_because: Unsigned | None = None


class PublicUrlFinding(Finding, frozen=True, kw_only=True):
    """The URL PostHog is told to deliver to."""

    url: str
    loopback: bool


class ProvisioningFinding(Finding, frozen=True, kw_only=True):
    """Whether a provisioning run would pass its preconditions."""

    state: Literal["possible", "refused", "unknown"]
    code: str | None = None
    """Code of the refusal a run would be answered with (contract 1.2 and 2.7)."""


class Diagnosis(Message, frozen=True):
    """Everything about the integration that an operator may have to act on."""

    private_host: str | None
    credential: CredentialFinding
    person_reads: ReadsFinding
    webhook_secret: SecretFinding
    destination: DestinationFinding
    scope_gap: list[str]
    public_url: PublicUrlFinding
    provisioning: ProvisioningFinding
    posthog_now: datetime | None = None
    """The time by PostHog's clock when this was answered; None when PostHog did not say it."""


PROVISIONER_PROVISION = Endpoint(
    service=User.PROVISIONER,
    verb="provision",
    request=ProvisionLoop,
    reply=ProvisionReply,
    callers=(User.GATEWAY,),
    summary="Make PostHog deliver its events here; repeating it changes nothing.",
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
