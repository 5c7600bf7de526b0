"""The sandbox as a program of the local stack, and the settings that use it as PostHog."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cli.admin.client import CREDENTIAL
from cli.errors import CommandError
from cli.local_http import local_http
from cli.stack.environment import minimal_environment
from cli.stack.stack import Stack
from cli.stack.supervisor import Program
from hogsend.service.settings.shared import PostHogSettings
from hogsend.urls import reached_at
from sandbox.options import Options, Resolve

PUBLIC_HOST = "hogsend.test"
"""Host name in `API_PUBLIC_URL`, in place of a public one. PostHog does not deliver to loopback
addresses, so `API_PUBLIC_URL` must not be one. Only the sandbox resolves it (`--resolve`)."""

MARK = "sandbox"
"""Empty file in the data directory: the stored credential is one of the sandbox."""

PORT = 8010
NOT_FOUND = 404
RESPONSE_SECONDS = 5.0
KEPT_SETTINGS = frozenset({"POSTHOG_WEBHOOK_SECRET"})
"""PostHog settings that `use` keeps, because they belong to the stack and not to a PostHog."""


class LocalSandbox:
    """A sandbox that delivers to the local gateway."""

    def __init__(
        self,
        port: int,
        gateway_port: int,
        *,
        gateway_host: str = "127.0.0.1",
        token_seconds: int = Options().token_seconds,
    ) -> None:
        """Configure the sandbox.

        Args:
            port: port of the sandbox.
            gateway_port: port of the gateway.
            gateway_host: listen address of the gateway.
            token_seconds: lifetime of an access token.
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
        """Return the sandbox as a program for the supervisor."""
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
            restart_note="The sandbox has lost its grants and events: run `hogsend connect "
            "posthog` again.",
        )

    @property
    def settings(self) -> Mapping[str, str]:
        """Settings of a stack that uses the sandbox as PostHog."""
        return {
            "POSTHOG_HOST": self.options.url,
            "POSTHOG_API_KEY": self.options.project_key,
            "API_PUBLIC_URL": self.public_url,
            "ENABLE_POSTHOG_DESTINATION": "true",
        }

    def use(self) -> None:
        """Replace the settings for another PostHog in this process' environment."""
        for name in PostHogSettings.environment_names() - KEPT_SETTINGS:
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


class SandboxCredential:
    """The stored credential of an earlier run's sandbox, which no longer knows it.

    The file `MARK` in the data directory states that the stored credential is of a sandbox. Without
    it the credential is of a real PostHog, and must neither be sent to a sandbox nor be replaced by
    a sandbox's.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._mark = stack.home.path / MARK

    async def forget(self, *, sandbox: bool) -> bool:
        """Delete an earlier sandbox's credential, and mark whether this run uses a sandbox.

        Args:
            sandbox: whether this run uses a sandbox.

        Returns:
            Whether a credential was deleted.

        Raises:
            CommandError: this run uses a sandbox, but the credential of a real PostHog is stored.
        """
        if not sandbox and not self._mark.exists():
            return False
        async with local_http(
            self._stack.base_url, key=self._stack.admin_key, timeout=RESPONSE_SECONDS
        ) as http:
            if not self._mark.exists() and (await http.get(CREDENTIAL)).status_code != NOT_FOUND:
                raise CommandError(
                    f"{self._stack.home.path} has the credential of a real PostHog",
                    "use another data directory for the sandbox: "
                    "HOGSEND_HOME=.hogsend-sandbox hogsend up --sandbox",
                )
            is_deleted = (await http.delete(CREDENTIAL)).is_success
        if sandbox:
            self._mark.touch()
        else:
            self._mark.unlink()
        return is_deleted
