"""The server's diagnosis of its PostHog side, as checks.

`detail` and `remediation` are the server's sentences and are printed unchanged.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from cli.admin.messages import OtherDestination
from cli.doctor.checks import Check, Mark


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of the diagnosis. A state that is not known here is shown as a problem."""

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
    stopped: bool = False
    """Whether it delivered, and does not any more; earlier servers do not tell."""
    hog_function_id: str | None = None
    webhook_url: str | None = None
    dashboard_url: str | None = None
    others: tuple[OtherDestination, ...] = ()
    duplicates: tuple[OtherDestination, ...] = ()


class Signatures(Finding, frozen=True, kw_only=True):
    """Whether deliveries are signed, and have to be."""

    state: str
    required: bool = False


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
    signatures: Signatures | None = None
    """None from an earlier server."""


_THROUGH = {"oauth": "the OAuth credential", "personal_key": "the personal API key"}


_LOOK = "see the log of the provisioner service (.hogsend/logs/provisioner.log)"
"""What is left to say about a problem for which the server has no sentence."""

_NO_SCOPES = {
    "absent": "no grant to check",
    "needs_reconnect": "none, until PostHog is connected again",
    "unreadable": "unknown, as the credential cannot be read",
    "unknown": "unknown, as the credential is",
}

# Marks of states, by part; every other state is a problem. A note is something that an operator may
# have meant: nothing that was there has stopped working.
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


def diagnosis_checks(found: Diagnosis) -> list[Check]:
    """Turn a diagnosis into checks."""
    # PostHog was not asked, since its address or a credential is missing: other lines tell that.
    unconnected = found.private_host is None or found.person_reads.state == "off"
    return [
        Check(
            Mark.OK if found.private_host else Mark.NOTE,
            "PostHog",
            found.private_host or "no host is configured",
        ),
        _credential(found.credential),
        _scope_gap(found),
        _person_reads(found.person_reads, unconnected=unconnected),
        _line(
            found.webhook_secret,
            "webhook secret",
            _with(_words(found.webhook_secret.state), found.webhook_secret.source),
            _SECRET.get(found.webhook_secret.state, Mark.PROBLEM),
        ),
        _destination(found.destination, unconnected=unconnected),
        *map(_duplicate, found.destination.duplicates),
        *map(_other_destination, found.destination.others),
        *([_signatures(found.signatures)] if found.signatures is not None else []),
        _line(
            found.public_url,
            "public URL",
            f"{found.public_url.url}, which only its own machine reaches"
            if found.public_url.loopback
            else found.public_url.url,
            Mark.NOTE if found.public_url.loopback else Mark.OK,
        ),
    ]


def _credential(found: Credential) -> Check:
    text = _words(found.state)
    if found.expires_at is not None:
        text += f", token {_until(found.expires_at)}"
    if found.refresh_failing:
        text += ", refresh is failing"
    mark = _CREDENTIAL.get(found.state, Mark.PROBLEM)
    if mark is Mark.OK and found.refresh_failing:
        mark = Mark.NOTE  # the token it holds works until it expires
    return _line(found, "OAuth credential", text, mark)


def _until(expires_at: str) -> str:
    try:
        is_over = datetime.fromisoformat(expires_at) <= datetime.now(UTC)
    except (ValueError, TypeError):
        # Not a time, or one without a zone: said as it is.
        is_over = False
    return f"expired at {expires_at}" if is_over else f"valid until {expires_at}"


def _scope_gap(found: Diagnosis) -> Check:
    if found.scope_gap:
        return missing_scopes(found.scope_gap)
    if found.credential.state == "present":
        return Check(Mark.OK, "scopes", "all granted")
    return Check(Mark.NOTE, "scopes", _NO_SCOPES.get(found.credential.state, "not checked"))


def missing_scopes(gap: tuple[str, ...]) -> Check:
    """Check for scopes that the stored grant lacks."""
    return Check(
        Mark.NOTE,
        "scopes",
        f"not granted: {', '.join(gap)}",
        ("run `hogsend connect posthog` again and approve them, if you need them",),
    )


def _person_reads(found: PersonReads, *, unconnected: bool) -> Check:
    text = _with(
        _words(found.state),
        f"through {_THROUGH[found.through]}" if found.through in _THROUGH else "",
    )
    mark = _READS.get(found.state, Mark.PROBLEM)
    return _line(found, "person reads", text, _unless(mark, unconnected=unconnected))


def _destination(found: Destination, *, unconnected: bool) -> Check:
    mark = _unless(_DESTINATION.get(found.state, Mark.PROBLEM), unconnected=unconnected)
    if found.stopped:
        mark = Mark.PROBLEM
    text = _with(_words(found.state), found.webhook_url)
    return _line(found, "destination", text, mark, found.dashboard_url)


def _signatures(found: Signatures) -> Check:
    # Why PostHog could not be asked is told on the destination's line.
    mark = {
        "signed": Mark.NOTE if found.detail else Mark.OK,
        "unsigned": Mark.NOTE,
        "unknown": Mark.NOTE,
    }
    text = _with(found.state, "and only signed webhooks are accepted" if found.required else None)
    return _line(found, "signatures", text, mark.get(found.state, Mark.PROBLEM))


def _duplicate(further: OtherDestination) -> Check:
    return Check(
        Mark.NOTE,
        "a further one",
        f"of this instance is enabled, too: {further.webhook_url}",
        (
            further.dashboard_url,
            "disable or delete all but one in PostHog: the others repeat what it delivers",
        ),
    )


def _other_destination(other: OtherDestination) -> Check:
    return Check(
        Mark.NOTE,
        "another one",
        f"delivers to {other.webhook_url}",
        (
            other.dashboard_url,
            "if that instance is no more, disable it in PostHog, or adopt it (docs/connect.md)",
        ),
    )


def _unless(mark: Mark, *, unconnected: bool) -> Mark:
    return Mark.NOTE if mark is Mark.UNKNOWN and unconnected else mark


def _line(finding: Finding, name: str, text: str, mark: Mark, *above: str | None) -> Check:
    below = (*above, finding.detail, finding.remediation)
    check = Check(mark, name, text, below)
    if not check.is_well and not (finding.detail or finding.remediation):
        return Check(mark, name, text, (*below, _LOOK))
    return check


def _words(state: str) -> str:
    return state.replace("_", " ")


def _with(state: str, more: str | None) -> str:
    return f"{state}, {more}" if more and more != "none" else state
