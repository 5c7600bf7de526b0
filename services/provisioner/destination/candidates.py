"""Destinations in PostHog that lead to a Hogsend, in the order they are tried (contract 2.2)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager

from hogsend.posthog.api import HogFunction, HogFunctions, Listed
from services.provisioner.destination.errors import Step
from services.provisioner.destination.webhook_url import leads_to_hogsend

MAX_PROBES = 25
"""Destinations read in full at most: lists do not show their URLs."""


async def candidates(
    functions: HogFunctions, during: Callable[[Step], AbstractContextManager[None]]
) -> AsyncGenerator[HogFunction, None]:
    """Read destinations one by one, likely names first, and give those whose path is ours.

    `during` is entered around each request and told which kind it is.
    """
    with during(Step.COLLECTION):
        listed = await functions.destinations()
    for entry in sorted(listed, key=_unlikely)[:MAX_PROBES]:
        with during(Step.FUNCTION):
            function = await functions.get(entry.id)
        if leads_to_hogsend(function.input("url")):
            yield function


def _unlikely(entry: Listed) -> bool:
    return "hogsend" not in entry.name.lower()
