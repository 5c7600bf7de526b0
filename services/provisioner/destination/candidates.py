"""Lists destinations in PostHog that deliver to any Hogsend, in the order of contract 2.2."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractContextManager

from hogsend.posthog.api import FunctionSummary, HogFunction, HogFunctions
from services.provisioner.destination.posthog_errors import Step
from services.provisioner.destination.webhook_url import is_webhook_url

MAX_PROBES = 25
"""Limit of destinations that are read one by one: PostHog's list does not contain their URLs."""


async def candidates(
    functions: HogFunctions,
    at_step: Callable[[Step], AbstractContextManager[None]],
    provisioned: Collection[str] = (),
) -> AsyncGenerator[HogFunction, None]:
    """Yield destinations whose URL ends in Hogsend's webhook path.

    Args:
        functions: the destinations of a project.
        at_step: returns a context manager for each request, given its step.
        provisioned: ids of destinations that are read first; those named "hogsend" follow.
    """
    with at_step(Step.COLLECTION):
        listed = await functions.destinations()

    def priority(entry: FunctionSummary) -> tuple[bool, bool]:
        return entry.id not in provisioned, "hogsend" not in entry.name.lower()

    for entry in sorted(listed, key=priority)[:MAX_PROBES]:
        with at_step(Step.FUNCTION):
            function = await functions.get(entry.id)
        if is_webhook_url(function.input("url")):
            yield function
