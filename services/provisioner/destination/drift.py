"""Drift: the differences between a destination in PostHog and the desired one (contract 2.3)."""

from __future__ import annotations

from typing import Any

from hogsend.contract.webhooks import SECRET_HEADER
from hogsend.posthog.api import HogFunction
from hogsend.posthog.api.hog_functions import WatcherState
from hogsend.posthog.api.reading import mapping, sequence
from hogsend.posthog.hog_template import is_plain

METHOD = "POST"
BODY = {"event": "{event}", "person": "{person}"}
CONTENT_TYPE, JSON_TYPE = "Content-Type", "application/json"
INPUTS = frozenset({"url", "method", "body", "headers", "debug"})
LEGACY_INPUT = "payload"

OTHER_URL = "its URL is different"
OTHER_METHOD = "its method is not POST"
OTHER_BODY = "its body is not event and person"
OTHER_SECRET = "its webhook secret is different"  # noqa: S105 - words
TWO_SECRETS = "its webhook secret is there twice"
TEMPLATE_SECRET = "PostHog takes a part of its webhook secret for a template"  # noqa: S105 - words
OTHER_KEY = "its signing key is different"
NOT_COMPILED = "PostHog cannot run its filters, so no event matches them"
STOPPING = frozenset(
    {OTHER_URL, OTHER_METHOD, OTHER_BODY, OTHER_SECRET, TWO_SECRETS, TEMPLATE_SECRET, OTHER_KEY}
    | {NOT_COMPILED}
)
"""Differences that stop events, at once or when an earlier secret is no longer accepted."""


def find_drift(function: HogFunction, webhook_url: str, secret: str | None) -> list[str]:
    """Describe each difference from a live destination for an operator; empty if there is none.

    The webhook secret is compared only if `secret` is not None.
    """
    secrets = header_values(function, SECRET_HEADER)
    checks = {
        "it is disabled": function.enabled,
        # Counts as drift because an update makes PostHog run the destination again.
        "PostHog disabled it": function.watcher_state is not WatcherState.DISABLED,
        OTHER_URL: function.input("url") == webhook_url,
        OTHER_METHOD: function.input("method") == METHOD,
        OTHER_BODY: function.input("body") == BODY and not function.is_liquid("body"),
        "its content type is not JSON": header_values(function, CONTENT_TYPE) == [JSON_TYPE],
        OTHER_SECRET: secret is None
        or (bool(secrets) and all(value == secret for value in secrets)),
        TWO_SECRETS: len(secrets) <= 1,
        TEMPLATE_SECRET: secret is None or is_plain(secret),
        "it is not limited to identified persons": any(
            map(is_identified_filter, sequence(function.filters.get("properties")))
        ),
        # Counts as drift because an update makes PostHog compile the filters again, or return why
        # it cannot.
        NOT_COMPILED: function.filters_compile,
        "its inputs are those of an old version": has_canonical_schema(function),
    }
    return [difference for difference, is_compliant in checks.items() if not is_compliant]


def header_values(function: HogFunction, name: str) -> list[Any]:
    """Return the values of a header in all spellings: PostHog sends each, and any may be used."""
    headers = mapping(function.input("headers"))
    return [value for spelling, value in headers.items() if spelling.lower() == name.lower()]


def is_identified_filter(entry: Any) -> bool:
    """Whether a filter entry admits only events of identified persons."""
    filter = mapping(entry)
    value = filter.get("value")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return (
        filter.get("key") == "$is_identified"
        and filter.get("operator") == "exact"
        and (value is True or value == "true")
    )


def has_canonical_schema(function: HogFunction) -> bool:
    """Whether a destination has the inputs of the current webhook template."""
    keys = {mapping(entry).get("key") for entry in function.inputs_schema}
    return keys >= INPUTS and LEGACY_INPUT not in keys
