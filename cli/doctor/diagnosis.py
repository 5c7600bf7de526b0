"""The server's diagnosis of its PostHog side, as checks.

`detail` and `remediation` are the server's sentences and are printed unchanged.
"""

from __future__ import annotations

import msgspec

from cli.doctor.checks import NEEDS_OPERATOR, Check, Mark


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of the diagnosis. Unknown states are shown as notes."""

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
    """The URL to which PostHog delivers."""

    url: str
    loopback: bool = False


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The diagnosis as the server sends it."""

    private_host: str | None = None
    credential: Credential
    person_reads: PersonReads
    webhook_secret: WebhookSecret
    destination: Destination
    scope_gap: tuple[str, ...] = ()
    public_url: PublicUrl


_THROUGH = {"oauth": "the OAuth credential", "personal_key": "the personal API key"}


def diagnosis_checks(found: Diagnosis) -> list[Check]:
    """Turn a diagnosis into checks; only a credential that needs the operator is a problem."""
    return [
        Check(
            Mark.OK if found.private_host else Mark.NOTE,
            "PostHog",
            found.private_host or "no host is configured",
        ),
        _credential(found.credential),
        _scope_gap(found),
        _person_reads(found.person_reads),
        _line(
            found.webhook_secret,
            "webhook secret",
            _with(found.webhook_secret.state, found.webhook_secret.source),
            well=found.webhook_secret.state == "present",
        ),
        _destination(found.destination),
        _line(
            found.public_url,
            "public URL",
            f"{found.public_url.url}, which only its own machine reaches"
            if found.public_url.loopback
            else found.public_url.url,
            well=not found.public_url.loopback,
        ),
    ]


def _credential(found: Credential) -> Check:
    text = found.state.replace("_", " ")
    if found.expires_at is not None:
        text += f", token valid until {found.expires_at}"
    if found.refresh_failing:
        text += ", refresh is failing"
    if found.state in NEEDS_OPERATOR:
        return Check(Mark.PROBLEM, "OAuth credential", text, (found.detail, found.remediation))
    well = found.state == "present" and not found.refresh_failing
    return _line(found, "OAuth credential", text, well=well)


def _scope_gap(found: Diagnosis) -> Check:
    if found.scope_gap:
        return missing_scopes(found.scope_gap)
    if found.credential.state != "present":
        return Check(Mark.NOTE, "scopes", "no grant to check")
    return Check(Mark.OK, "scopes", "all granted")


def missing_scopes(gap: tuple[str, ...]) -> Check:
    """Check for scopes that the stored grant lacks."""
    return Check(
        Mark.NOTE,
        "scopes",
        f"not granted: {', '.join(gap)}",
        ("run `hogsend connect posthog` again and approve them, if you need them",),
    )


def _person_reads(found: PersonReads) -> Check:
    text = _with(
        found.state, f"through {_THROUGH[found.through]}" if found.through in _THROUGH else ""
    )
    return _line(found, "person reads", text, well=found.state == "working")


def _destination(found: Destination) -> Check:
    mark = Mark.OK if found.state == "live" else Mark.NOTE
    text = _with(found.state, found.webhook_url)
    return Check(mark, "destination", text, (found.dashboard_url, found.detail, found.remediation))


def _line(finding: Finding, name: str, text: str, *, well: bool) -> Check:
    return Check(Mark.OK if well else Mark.NOTE, name, text, (finding.detail, finding.remediation))


def _with(state: str, more: str | None) -> str:
    return f"{state}, {more}" if more and more != "none" else state
