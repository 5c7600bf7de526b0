"""Which destinations are ours to change, when several instances may share a project.

Stricter than contract 2.2, which takes the first whose path matches: there, two instances in one
project point each other's destination at themselves for ever.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hogsend.posthog.api import HogFunction
from hogsend.posthog.api.reading import mapping
from hogsend.urls import is_loopback
from services.provisioner.destination.drift import SECRET_HEADER
from services.provisioner.destination.instance_probe import LiveInstances
from services.provisioner.destination.webhook_url import instance_url, is_placeholder, same_place


class Ownership(msgspec.Struct, frozen=True):
    """Judges destinations that lead to some Hogsend."""

    webhook_url: str
    secret: str | None
    """None when it cannot be known; then a destination that carries one is somebody else's."""
    provisioned: Mapping[str, str]
    """URLs we gave to destinations earlier, by destination."""
    instances: LiveInstances

    async def is_ours(self, function: HogFunction) -> bool:
        """Whether this instance may change a destination.

        An enabled one with another URL and another secret works for somebody, so it is left alone
        without a question. One that carries our secret or none is left alone when a Hogsend
        answers at its URL.
        """
        url = function.input("url")
        if same_place(url, self.webhook_url) or not function.enabled:
            return True
        # Only as we left it: who pointed it elsewhere since then has taken it over.
        if self.provisioned.get(function.id) == url:
            return True
        if is_placeholder(url) or is_loopback(url):
            return True
        carried = _secret_header(function)
        if carried is not None and carried != self.secret:
            return False
        instance = instance_url(url)
        return instance is None or not await self.instances.is_live(instance)


def _secret_header(function: HogFunction) -> str | None:
    for name, value in mapping(function.input("headers")).items():
        if name.lower() == SECRET_HEADER and value:
            return str(value)
    return None
