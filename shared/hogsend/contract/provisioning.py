"""Provisioning: the PostHog destination that delivers events here, made or looked at."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from hogsend.contract.base import Empty, Message
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User

Action = Literal["created", "updated", "unchanged"]


class ProvisionLoop(Message, frozen=True):
    """Make PostHog deliver its events to this instance."""

    placeholder: bool = False
    """Only make a disabled destination to be filled in later; never touch an existing one."""


class Destination(Message, frozen=True):
    """A webhook destination in PostHog whose path is ours."""

    hog_function_id: str
    webhook_url: str


class Provisioned(Message, frozen=True):
    """How the destination was brought up (contract 1.2)."""

    action: Action
    hog_function_id: str
    webhook_url: str
    dashboard_url: str
    enabled: bool
    other_instances: list[Destination] = []
    """Destinations of other live instances in the same project: left alone."""


class Refusal(Message, frozen=True):
    """Why nothing was provisioned."""

    reason: Literal["precondition", "posthog"]
    """Something is missing here (409), or PostHog said no or could not be reached (502)."""
    code: str
    detail: str | None = None
    remediation: str | None = None


class ProvisionReply(Message, frozen=True):
    """Exactly one of both."""

    provisioned: Provisioned | None = None
    refusal: Refusal | None = None


class Finding(Message, frozen=True, kw_only=True):
    """What is to be said about one part of the integration, if anything."""

    detail: str | None = None
    remediation: str | None = None


class CredentialFinding(Finding, frozen=True, kw_only=True):
    """The stored OAuth grant."""

    state: Literal["present", "absent", "unreadable", "needs_reconnect", "unknown"]
    """`unknown` while the credentials service is away."""
    scopes: list[str] = []
    expires_at: datetime | None = None
    refresh_failing: bool = False


class ReadsFinding(Finding, frozen=True, kw_only=True):
    """Whether persons can be read, tried for real."""

    state: Literal["working", "failing", "off", "unknown"]
    through: Literal["oauth", "personal_key", "none"]


class SecretFinding(Finding, frozen=True, kw_only=True):
    """What PostHog's deliveries must carry."""

    state: Literal["present", "absent", "unreadable", "unknown"]
    source: Literal["environment", "minted", "none"]


class DestinationFinding(Finding, frozen=True, kw_only=True):
    """Our destination as PostHog has it."""

    state: Literal["live", "disabled", "drifted", "placeholder", "elsewhere", "missing", "unknown"]
    hog_function_id: str | None = None
    webhook_url: str | None = None
    dashboard_url: str | None = None


class PublicUrlFinding(Finding, frozen=True, kw_only=True):
    """The URL PostHog is told to deliver to."""

    url: str
    loopback: bool


class ProvisioningFinding(Finding, frozen=True, kw_only=True):
    """Whether a run would get as far as asking PostHog for a destination."""

    state: Literal["possible", "refused", "unknown"]
    code: str | None = None
    """What a run would be refused with (contract 1.2 and 2.7)."""


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


PROVISIONER_PROVISION = Endpoint(
    service=User.PROVISIONER,
    verb="provision",
    request=ProvisionLoop,
    reply=ProvisionReply,
    callers=(User.GATEWAY,),
    summary="Make PostHog deliver its events here; doing it twice changes nothing.",
    deadline=60.0,
)
PROVISIONER_DIAGNOSE = Endpoint(
    service=User.PROVISIONER,
    verb="diagnose",
    request=Empty,
    reply=Diagnosis,
    callers=(User.GATEWAY,),
    summary="What works between this instance and PostHog, and what to do about the rest.",
    deadline=20.0,
)
