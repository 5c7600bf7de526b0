"""The server's examination of its PostHog side, line by line.

`detail` and `remediation` are the server's sentences and are printed as they are.
"""

from __future__ import annotations

import msgspec

from cli.doctor.checks import NEEDS_OPERATOR, Check, Mark


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Something the server has words for. States that are not known here are shown as notes."""

    detail: str | None = None
    remediation: str | None = None


class Credential(Finding, frozen=True, kw_only=True):
    """The stored OAuth grant."""

    state: str
    scopes: tuple[str, ...] = ()
    expires_at: str | None = None
    refresh_failing: bool = False


class PersonReads(Finding, frozen=True, kw_only=True):
    """Whether persons can be read, and with which credential."""

    state: str
    through: str = "none"


class WebhookSecret(Finding, frozen=True, kw_only=True):
    """The secret PostHog's webhooks must carry."""

    state: str
    source: str = "none"


class Destination(Finding, frozen=True, kw_only=True):
    """The webhook destination in PostHog."""

    state: str
    hog_function_id: str | None = None
    webhook_url: str | None = None
    dashboard_url: str | None = None


class PublicUrl(Finding, frozen=True, kw_only=True):
    """Where PostHog is told to deliver."""

    url: str
    loopback: bool = False


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The whole examination."""

    private_host: str | None = None
    credential: Credential
    person_reads: PersonReads
    webhook_secret: WebhookSecret
    destination: Destination
    scope_gap: tuple[str, ...] = ()
    public_url: PublicUrl


_THROUGH = {"oauth": "the OAuth credential", "personal_key": "the personal API key"}


def diagnosis_checks(seen: Diagnosis) -> list[Check]:
    """Lines of the report; only a credential that needs the operator is a problem."""
    return [
        Check(
            Mark.OK if seen.private_host else Mark.NOTE,
            "PostHog",
            seen.private_host or "no host is configured",
        ),
        _credential(seen.credential),
        _scope_gap(seen),
        _person_reads(seen.person_reads),
        _line(
            seen.webhook_secret,
            "webhook secret",
            _with(seen.webhook_secret.state, seen.webhook_secret.source),
            well=seen.webhook_secret.state == "present",
        ),
        _destination(seen.destination),
        _line(
            seen.public_url,
            "public URL",
            f"{seen.public_url.url}, which only its own machine reaches"
            if seen.public_url.loopback
            else seen.public_url.url,
            well=not seen.public_url.loopback,
        ),
    ]


def _credential(seen: Credential) -> Check:
    says = seen.state.replace("_", " ")
    if seen.expires_at is not None:
        says += f", token good until {seen.expires_at}"
    if seen.refresh_failing:
        says += ", its refresh fails"
    if seen.state in NEEDS_OPERATOR:
        return Check(Mark.PROBLEM, "OAuth credential", says, (seen.detail, seen.remediation))
    well = seen.state == "present" and not seen.refresh_failing
    return _line(seen, "OAuth credential", says, well=well)


def _scope_gap(seen: Diagnosis) -> Check:
    if seen.scope_gap:
        return missing_scopes(seen.scope_gap)
    if seen.credential.state != "present":
        return Check(Mark.NOTE, "scopes", "no grant to look at")
    return Check(Mark.OK, "scopes", "all granted")


def missing_scopes(gap: tuple[str, ...]) -> Check:
    """Line for scopes the stored grant lacks."""
    return Check(
        Mark.NOTE,
        "scopes",
        f"not granted: {', '.join(gap)}",
        ("run `hogsend connect posthog` again and approve them, if you need what they are for",),
    )


def _person_reads(seen: PersonReads) -> Check:
    says = _with(
        seen.state, f"through {_THROUGH[seen.through]}" if seen.through in _THROUGH else ""
    )
    return _line(seen, "person reads", says, well=seen.state == "working")


def _destination(seen: Destination) -> Check:
    mark = Mark.OK if seen.state == "live" else Mark.NOTE
    says = _with(seen.state, seen.webhook_url)
    return Check(mark, "destination", says, (seen.dashboard_url, seen.detail, seen.remediation))


def _line(finding: Finding, name: str, says: str, *, well: bool) -> Check:
    return Check(Mark.OK if well else Mark.NOTE, name, says, (finding.detail, finding.remediation))


def _with(state: str, more: str | None) -> str:
    return f"{state}, {more}" if more and more != "none" else state
