"""A stand-in for PostHog beside the stack: the sandbox as a program, and the settings to use it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cli.admin.client import CREDENTIAL
from cli.errors import CommandError
from cli.own_http import own_http
from cli.stack.environment import minimal_environment
from cli.stack.stack import Stack
from cli.stack.supervisor import Program
from hogsend.service.settings.shared import PostHogSettings
from hogsend.urls import reached_at
from sandbox.options import Options, Resolve

PUBLIC_HOST = "hogsend.test"
"""Stands for a gateway's public host name: PostHog refuses to deliver to loopback addresses, so
`API_PUBLIC_URL` must not be one. Only the sandbox resolves it (`--resolve`)."""

MARK = "sandbox"
"""Empty file in the data directory: the stored credential is one of the sandbox."""

PORT = 8010
NOT_FOUND = 404
ANSWER_SECONDS = 5.0
KEPT = frozenset({"POSTHOG_WEBHOOK_SECRET"})
"""The one PostHog setting that is the stack's own, whichever PostHog there is."""


class StandIn:
    """A sandbox and its one project, addressed so that everything works without further flags."""

    def __init__(
        self,
        port: int,
        gateway_port: int,
        *,
        gateway_host: str = "127.0.0.1",
        token_seconds: int = Options().token_seconds,
    ) -> None:
        """Configure it.

        Args:
            port: where it listens.
            gateway_port: where the gateway listens, to which it delivers.
            gateway_host: the same.
            token_seconds: how long an access token is valid.
        """
        self.options = Options(
            port=port,
            auto_consent=True,
            allow_http_clients=True,
            token_seconds=token_seconds,
            resolve=(Resolve.parse(f"{PUBLIC_HOST}={reached_at(gateway_host, gateway_port)}"),),
        )
        self.public_url = f"http://{PUBLIC_HOST}:{gateway_port}"

    def program(self, python_path: str, directory: Path) -> Program:
        """Return the program that runs it."""
        (resolve,) = self.options.resolve
        return Program(
            "sandbox",
            [
                *(sys.executable, "-m", "cli.main", "sandbox", "--auto-consent"),
                *("--allow-http-clients", "--port", str(self.options.port)),
                *("--token-seconds", str(self.options.token_seconds)),
                *("--resolve", str(resolve)),
            ],
            {**minimal_environment(), "PYTHONPATH": python_path},
            directory=directory,
            forgets="It forgot what it had granted and captured: run `hogsend connect posthog` "
            "again.",
        )

    @property
    def settings(self) -> Mapping[str, str]:
        """Settings of a stack that uses this PostHog."""
        return {
            "POSTHOG_HOST": self.options.url,
            "POSTHOG_API_KEY": self.options.project_key,
            "API_PUBLIC_URL": self.public_url,
            "ENABLE_POSTHOG_DESTINATION": "true",
        }

    def use(self) -> None:
        """Set the settings in this process, in place of those for another PostHog."""
        for name in PostHogSettings.environment_names() - KEPT:
            os.environ.pop(name, None)
        os.environ.update(self.settings)

    def curl(self, event: str, distinct_id: str, email: str | None = None) -> str:
        """Return a shell command that captures an event."""
        body = msgspec.json.encode(self.event(event, distinct_id, email)).decode()
        return f"curl {self.options.url}/i/v0/e/ -H 'Content-Type: application/json' -d '{body}'"

    def event(self, event: str, distinct_id: str, email: str | None) -> dict[str, object]:
        """Return the body that captures an event of an identified person."""
        properties: dict[str, object] = {"$is_identified": True, "plan": "free"}
        if email is not None:
            properties["$set"] = {"email": email, "plan": "free"}
        return {
            "api_key": self.options.project_key,
            "event": event,
            "distinct_id": distinct_id,
            "properties": properties,
        }


class EarlierCredential:
    """What an earlier run's sandbox granted: it forgot it when it stopped, and so must the stack.

    `MARK` in the data directory says that the stored credential is a sandbox's. Without it, the
    credential is one for a PostHog that exists, and no sandbox gets to see it or to replace it.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._mark = stack.home.path / MARK

    async def forget(self, *, sandbox: bool) -> bool:
        """Delete an earlier sandbox's credential, and note whether a sandbox is used now.

        Returns:
            Whether one was deleted.

        Raises:
            CommandError: a sandbox is wanted, and a credential for another PostHog is stored.
        """
        if not sandbox and not self._mark.exists():
            return False
        async with own_http(
            self._stack.base_url, key=self._stack.admin_key, timeout=ANSWER_SECONDS
        ) as http:
            if not self._mark.exists() and (await http.get(CREDENTIAL)).status_code != NOT_FOUND:
                raise CommandError(
                    f"{self._stack.home.path} holds the credential of a real PostHog",
                    "give the sandbox data of its own: "
                    "HOGSEND_HOME=.hogsend-sandbox hogsend up --sandbox",
                )
            deleted = (await http.delete(CREDENTIAL)).is_success
        if sandbox:
            self._mark.touch()
        else:
            self._mark.unlink()
        return deleted
