"""Destinations in PostHog that deliver to any Hogsend, in the order of contract 2.2."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractContextManager

from hogsend.posthog.api import FunctionSummary, HogFunction, HogFunctions
from services.provisioner.destination.errors import Step
from services.provisioner.destination.webhook_url import is_webhook_url

MAX_PROBES = 25
"""How many destinations are read in full at most: PostHog's list does not show their URLs."""


async def candidates(
    functions: HogFunctions,
    during: Callable[[Step], AbstractContextManager[None]],
    known: Collection[str] = (),
) -> AsyncGenerator[HogFunction, None]:
    """Yield destinations whose URL ends in our webhook path.

    Those whose ids are `known` to be ours are read first, then those named "hogsend". `during`
    wraps each request and is told its step.
    """
    with during(Step.COLLECTION):
        listed = await functions.destinations()
    for entry in sorted(listed, key=lambda one: (one.id not in known, _unlikely(one)))[:MAX_PROBES]:
        with during(Step.FUNCTION):
            function = await functions.get(entry.id)
        if is_webhook_url(function.input("url")):
            yield function


def _unlikely(entry: FunctionSummary) -> bool:
    return "hogsend" not in entry.name.lower()
