"""OAuth scopes: the supported ones, their minimal form, and their text on the consent page."""

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
    *(f"{name}:{access}" for name in OBJECTS for access in ("read", "write")),
)


def grantable(requested: str) -> tuple[str, ...]:
    """Return the minimal form of the requested scopes that exist, or of all if none exists.

    Unknown scopes are dropped, not refused (`validate_scopes` in posthog/api/oauth/views.py).
    """
    scopes = requested.split()
    if "*" in scopes:
        return ("*",)
    supported = [scope for scope in scopes if scope in SUPPORTED]
    return fold(supported or SUPPORTED)


def fold(scopes: Iterable[str]) -> tuple[str, ...]:
    """Replace `:read` and `:write` of an object by `:write`, at the position of the first one.

    Follows `getMinimumEquivalentScopes` in scopes.tsx.
    """
    folded: dict[str, str] = {}
    for scope in scopes:
        name, _, access = scope.partition(":")
        if name not in folded or access == "write":
            folded[name] = scope
    return tuple(folded.values())


def describe(scope: str) -> str:
    """Describe a scope for the consent page."""
    if scope == "*":
        return "Read and change everything you can"
    if scope in IDENTITY:
        return IDENTITY[scope]
    name, _, access = scope.partition(":")
    verb = "Read and change" if access == "write" else "Read"
    return f"{verb} {OBJECTS.get(name, name)}"


def allows(granted: Iterable[str], required: str) -> bool:
    """Whether `granted` includes `required`: `*` includes all, `:write` includes `:read`."""
    scopes = set(granted)
    if "*" in scopes or required in scopes:
        return True
    name, _, access = required.partition(":")
    return access == "read" and f"{name}:write" in scopes
