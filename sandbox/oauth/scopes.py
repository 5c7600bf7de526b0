"""Scopes: the supported ones, their minimal form, and their text on the consent page."""

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
"""Some of the scope objects in posthog/scopes.py, with their plurals."""

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
    """Return the requested scopes that exist, folded; all supported ones if none does.

    Unknown scopes are dropped, not refused (`validate_scopes` in posthog/api/oauth/views.py).
    """
    asked = requested.split()
    if "*" in asked:
        return ("*",)
    known = [scope for scope in asked if scope in SUPPORTED]
    return fold(known or SUPPORTED)


def fold(scopes: Iterable[str]) -> tuple[str, ...]:
    """Replace `:read` and `:write` of an object by `:write`, in the place of the first one.

    As `getMinimumEquivalentScopes` in scopes.tsx.
    """
    folded: dict[str, str] = {}
    for scope in scopes:
        name, _, half = scope.partition(":")
        if name not in folded or half == "write":
            folded[name] = scope
    return tuple(folded.values())


def describe(scope: str) -> str:
    """Describe a scope for the consent page."""
    if scope == "*":
        return "Read and change everything you can"
    if scope in IDENTITY:
        return IDENTITY[scope]
    name, _, half = scope.partition(":")
    verb = "Read and change" if half == "write" else "Read"
    return f"{verb} {OBJECTS.get(name, name)}"


def allows(held: Iterable[str], required: str) -> bool:
    """Whether `held` includes `required`; `*` includes all, `:write` includes `:read`."""
    scopes = set(held)
    if "*" in scopes or required in scopes:
        return True
    name, _, half = required.partition(":")
    return half == "read" and f"{name}:write" in scopes
