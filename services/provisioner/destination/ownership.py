"""Ownership: which destinations this instance may change when several share a project.

Stricter than contract 2.2, which takes the first destination whose path matches. Under that rule
two instances in one project repoint each other's destination at every run, without end.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hogsend.contract.webhooks import SECRET_HEADER
from hogsend.posthog.api import HogFunction
from hogsend.urls import is_loopback
from services.provisioner.destination.drift import header_values
from services.provisioner.destination.instance_probe import InstanceProbe
from services.provisioner.destination.webhook_url import instance_url, is_placeholder, same_instance


class Ownership(msgspec.Struct, frozen=True):
    """Decides for each destination that delivers to any Hogsend whether it is ours."""

    webhook_url: str
    secret: str | None
    """None when unknown; a destination that carries a secret then belongs to another instance."""
    provisioned: Mapping[str, str]
    """URLs this instance gave to destinations earlier, by destination id."""
    instances: InstanceProbe

    async def is_ours(self, function: HogFunction) -> bool:
        """Whether this instance may change a destination.

        An enabled destination with a foreign URL and a foreign secret works for another instance:
        it is left alone, and its URL is not probed. One that carries our secret or none is left
        alone when a Hogsend answers at its URL.
        """
        url = function.input("url")
        if same_instance(url, self.webhook_url) or not function.enabled:
            return True
        # Only with the URL we gave it: with any other, another instance has taken it over.
        if self.provisioned.get(function.id) == url:
            return True
        if is_placeholder(url) or is_loopback(url):
            return True
        carried = [value for value in header_values(function, SECRET_HEADER) if value]
        if carried and self.secret not in carried:
            return False
        instance = instance_url(url)
        return instance is None or not await self.instances.is_live(instance)
