"""The OAuth scopes that Hogsend requests from PostHog, in their canonical order (spec 3.1)."""

from __future__ import annotations

from collections.abc import Iterable

SCOPES: tuple[str, ...] = (
    "person:read",
    "person:write",
    "project:read",
    "organization:read",
    "hog_function:read",
    "hog_function:write",
    "feature_flag:read",
    "cohort:read",
    "cohort:write",
    "query:read",
    "insight:read",
    "event_definition:read",
    "property_definition:read",
)


def missing(granted: Iterable[str]) -> list[str]:
    """List the scopes of `SCOPES` that a grant lacks, in order.

    In PostHog a write scope implies the read scope of the same resource.
    """
    scopes = set(granted)
    return [
        scope
        for scope in SCOPES
        if scope not in scopes
        and not (scope.endswith(":read") and f"{scope.removesuffix('read')}write" in scopes)
    ]
