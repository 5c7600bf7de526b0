"""The server's diagnosis of its connection to PostHog, as checks.

`detail` and `remediation` are texts of the server and are printed unchanged.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from cli.admin.messages import OtherDestination
from cli.doctor.checks import Check, Mark


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of the diagnosis. A state that this version does not know is shown as a problem."""

    detail: str | None = None
    remediation: str | None = None


class Credential(Finding, frozen=True, kw_only=True):
    """The stored OAuth grant."""

    state: str
    scopes: tuple[str, ...] = ()
    expires_at: str | None = None
    refresh_failing: bool = False


class PersonReads(Finding, frozen=True, kw_only=True):
    """Whether Hogsend can read persons from PostHog, and with which credential."""

    state: str
    through: str = "none"


class WebhookSecret(Finding, frozen=True, kw_only=True):
    """The secret that PostHog's webhooks must have."""

    state: str
    source: str = "none"


class Destination(Finding, frozen=True, kw_only=True):
    """The webhook destination in PostHog."""

    state: str
    stopped: bool = False
    """Whether it delivered before and stopped. Earlier servers do not report it."""
    hog_function_id: str | None = None
    webhook_url: str | None = None
    dashboard_url: str | None = None
    others: tuple[OtherDestination, ...] = ()
    duplicates: tuple[OtherDestination, ...] = ()


class Signatures(Finding, frozen=True, kw_only=True):
    """Whether webhooks are signed, and whether a signature is required."""

    state: str
    required: bool = False


class PublicUrl(Finding, frozen=True, kw_only=True):
    """The server's public URL, which PostHog delivers to."""

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
    signatures: Signatures | None = None
    """None from a server of an earlier version."""


_THROUGH = {"oauth": "the OAuth credential", "personal_key": "the personal API key"}


_DEFAULT_FIX = "see the log of the provisioner service (.hogsend/logs/provisioner.log)"
"""Fix for a problem that has neither a detail nor a remediation by the server."""

_NO_SCOPES = {
    "absent": "none, without an OAuth credential",
    "needs_reconnect": "none, until PostHog is connected again",
    "unreadable": "unknown, because the credential cannot be read",
    "unknown": "unknown, because the credential's state is unknown",
}

# Marks by state, for each part. Any other state is a problem. A state that the operator may intend,
# such as not being connected yet, is only a note.
_READS = {"working": Mark.OK, "off": Mark.NOTE, "unknown": Mark.UNKNOWN}
_SECRET = {"present": Mark.OK, "absent": Mark.NOTE, "unknown": Mark.UNKNOWN}
_CREDENTIAL = {"present": Mark.OK, "absent": Mark.NOTE, "unknown": Mark.UNKNOWN}
_DESTINATION = {
    "live": Mark.OK,
    "missing": Mark.NOTE,
    "placeholder": Mark.NOTE,
    "elsewhere": Mark.NOTE,
    "drifted": Mark.NOTE,
    "unknown": Mark.UNKNOWN,
}


def diagnosis_checks(diagnosis: Diagnosis) -> list[Check]:
    """Turn a diagnosis into checks."""
    # Without a host or a credential PostHog was not queried, which is why states are unknown. Other
    # lines report that.
    is_unconnected = diagnosis.private_host is None or diagnosis.person_reads.state == "off"
    secret, public_url = diagnosis.webhook_secret, diagnosis.public_url
    return [
        Check(
            Mark.OK if diagnosis.private_host else Mark.NOTE,
            "PostHog",
            diagnosis.private_host or "no host is configured",
        ),
        _credential(diagnosis.credential),
        _scopes(diagnosis),
        _person_reads(diagnosis.person_reads, is_unconnected=is_unconnected),
        _check(
            secret,
            "webhook secret",
            _join(_words(secret.state), secret.source),
            _SECRET.get(secret.state, Mark.PROBLEM),
        ),
        _destination(diagnosis.destination, is_unconnected=is_unconnected),
        *map(_duplicate, diagnosis.destination.duplicates),
        *map(_other_destination, diagnosis.destination.others),
        *([_signatures(diagnosis.signatures)] if diagnosis.signatures is not None else []),
        _check(
            public_url,
            "public URL",
            f"{public_url.url}, a loopback address" if public_url.loopback else public_url.url,
            Mark.NOTE if public_url.loopback else Mark.OK,
        ),
    ]


def _credential(credential: Credential) -> Check:
    text = _words(credential.state)
    if credential.expires_at is not None:
        text += f", token {_expiry(credential.expires_at)}"
    if credential.refresh_failing:
        text += ", refresh is failing"
    mark = _CREDENTIAL.get(credential.state, Mark.PROBLEM)
    if mark is Mark.OK and credential.refresh_failing:
        mark = Mark.NOTE  # the current token is valid until it expires
    return _check(credential, "OAuth credential", text, mark)


def _expiry(expires_at: str) -> str:
    try:
        is_expired = datetime.fromisoformat(expires_at) <= datetime.now(UTC)
    except (ValueError, TypeError):
        # Not a timestamp, or one without an offset: printed unchanged.
        is_expired = False
    return f"expired at {expires_at}" if is_expired else f"valid until {expires_at}"


def _scopes(diagnosis: Diagnosis) -> Check:
    if diagnosis.scope_gap:
        return missing_scopes(diagnosis.scope_gap)
    state = diagnosis.credential.state
    if state == "present":
        return Check(Mark.OK, "scopes", "all granted")
    return Check(Mark.NOTE, "scopes", _NO_SCOPES.get(state, "not checked"))


def missing_scopes(missing: tuple[str, ...]) -> Check:
    """Return the check for scopes that the stored grant lacks."""
    return Check(
        Mark.NOTE,
        "scopes",
        f"not granted: {', '.join(missing)}",
        ("run `hogsend connect posthog` again and approve them, if you need them",),
    )


def _person_reads(reads: PersonReads, *, is_unconnected: bool) -> Check:
    text = _join(
        _words(reads.state),
        f"through {_THROUGH[reads.through]}" if reads.through in _THROUGH else "",
    )
    mark = _soften(_READS.get(reads.state, Mark.PROBLEM), is_unconnected=is_unconnected)
    return _check(reads, "person reads", text, mark)


def _destination(destination: Destination, *, is_unconnected: bool) -> Check:
    mark = _DESTINATION.get(destination.state, Mark.PROBLEM)
    mark = _soften(mark, is_unconnected=is_unconnected)
    if destination.stopped:
        mark = Mark.PROBLEM
    text = _join(_words(destination.state), destination.webhook_url)
    return _check(destination, "destination", text, mark, destination.dashboard_url)


def _signatures(signatures: Signatures) -> Check:
    # An unknown state is only a note: the destination's line has the reason.
    marks = {
        "signed": Mark.NOTE if signatures.detail else Mark.OK,
        "unsigned": Mark.NOTE,
        "unknown": Mark.NOTE,
    }
    requirement = "and only signed webhooks are accepted" if signatures.required else None
    text = _join(signatures.state, requirement)
    return _check(signatures, "signatures", text, marks.get(signatures.state, Mark.PROBLEM))


def _duplicate(duplicate: OtherDestination) -> Check:
    return Check(
        Mark.NOTE,
        "destination",
        f"another one of this server is enabled too: {duplicate.webhook_url}",
        (
            duplicate.dashboard_url,
            "disable or delete all but one in PostHog: each delivers the same events",
        ),
    )


def _other_destination(other: OtherDestination) -> Check:
    return Check(
        Mark.NOTE,
        "destination",
        f"another one delivers to {other.webhook_url}",
        (
            other.dashboard_url,
            "if that server no longer exists, disable it in PostHog, or adopt it (docs/connect.md)",
        ),
    )


def _soften(mark: Mark, *, is_unconnected: bool) -> Mark:
    """Return a note for an unknown state of a server that is not connected to PostHog."""
    return Mark.NOTE if mark is Mark.UNKNOWN and is_unconnected else mark


def _check(finding: Finding, name: str, text: str, mark: Mark, *above: str | None) -> Check:
    """Return the check of a finding, with `above` before its detail and remediation."""
    below = (*above, finding.detail, finding.remediation)
    check = Check(mark, name, text, below)
    if not check.is_well and not (finding.detail or finding.remediation):
        return Check(mark, name, text, (*below, _DEFAULT_FIX))
    return check


def _words(state: str) -> str:
    return state.replace("_", " ")


def _join(state: str, addition: str | None) -> str:
    return f"{state}, {addition}" if addition and addition != "none" else state
