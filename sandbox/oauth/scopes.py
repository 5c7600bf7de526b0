"""Scopes: which there are, how they fold, and what they are called on the consent page."""

from __future__ import annotations

from collections.abc import Iterable

OBJECTS: dict[str, str] = {
    "action": "actions",
    "activity_log": "activity logs",
    "annotation": "annotations",
    "batch_export": "batch exports",
    "cohort": "cohorts",
    "dashboard": "dashboards",
    "early_access_feature": "early access features",
    "error_tracking": "error tracking",
    "event_definition": "event definitions",
    "experiment": "experiments",
    "export": "exports",
    "feature_flag": "feature flags",
    "group": "groups",
    "hog_function": "hog functions",
    "insight": "insights",
    "integration": "integrations",
    "notebook": "notebooks",
    "organization": "organizations",
    "organization_member": "organization members",
    "person": "persons",
    "plugin": "plugins",
    "project": "projects",
    "property_definition": "property definitions",
    "query": "queries",
    "session_recording": "session recordings",
    "sharing_configuration": "sharing configurations",
    "subscription": "subscriptions",
    "survey": "surveys",
    "user": "users",
    "webhook": "webhooks",
}
"""Part of the scope objects of posthog/scopes.py, with their plurals."""

IDENTITY: dict[str, str] = {
    "openid": "Know who you are",
    "profile": "See your name",
    "email": "See your email address",
    "introspection": "Ask whether a token is still valid",
}

SUPPORTED: tuple[str, ...] = (
    *IDENTITY,
    *(f"{name}:{half}" for name in OBJECTS for half in ("read", "write")),
)


def grantable(requested: str) -> tuple[str, ...]:
    """The requested scopes that exist, folded; all of them when none is asked for.

    Unknown ones are dropped, not refused (`validate_scopes` in posthog/api/oauth/views.py).
    """
    asked = requested.split()
    if "*" in asked:
        return ("*",)
    known = [scope for scope in asked if scope in SUPPORTED]
    return fold(known or SUPPORTED)


def fold(scopes: Iterable[str]) -> tuple[str, ...]:
    """Both halves of an object become `:write` (`getMinimumEquivalentScopes` in scopes.tsx).

    An object keeps the place of its first mention.
    """
    folded: dict[str, str] = {}
    for scope in scopes:
        name, _, half = scope.partition(":")
        if name not in folded or half == "write":
            folded[name] = scope
    return tuple(folded.values())


def describe(scope: str) -> str:
    """What a scope allows, for people."""
    if scope == "*":
        return "Read and change everything you can"
    if scope in IDENTITY:
        return IDENTITY[scope]
    name, _, half = scope.partition(":")
    verb = "Read and change" if half == "write" else "Read"
    return f"{verb} {OBJECTS.get(name, name)}"


def allows(held: Iterable[str], required: str) -> bool:
    """Whether `held` covers `required`; `*` covers all, `:write` covers `:read`."""
    scopes = set(held)
    if "*" in scopes or required in scopes:
        return True
    name, _, half = required.partition(":")
    return half == "read" and f"{name}:write" in scopes
