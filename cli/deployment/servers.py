"""Connects to the NATS servers of a deployment from this machine, as the operator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import quote

import nats.errors
import nats.js.errors
from nats.aio.client import Client

import hogsend
from cli.deployment.compose import Compose
from cli.errors import CommandError
from hogsend.contract.errors import Forbidden, Unavailable
from hogsend.contract.users import User

EVERYDAY_PORT = 4222
MOVING_PORT = 14222
"""Port of NATS while its streams are moved. No service connects to it, so the gateways keep the
webhooks that they accept in their spools."""
MOVING: Mapping[str, str] = {
    "NATS_CLIENT_PORT": str(MOVING_PORT),
    "NATS_PUBLISH": f"127.0.0.1:{MOVING_PORT}",
}
ATTEMPTS = 240
"""Number of attempts until JetStream replies."""
POLL_SECONDS = 0.5


@asynccontextmanager
async def operator(compose: Compose, *, port: int = EVERYDAY_PORT) -> AsyncIterator[Client]:
    """Connect as the operator, once JetStream replies.

    Args:
        compose: the deployment.
        port: port of the servers inside their containers.

    Raises:
        CommandError: JetStream does not reply in time, or NATS refuses the operator's password.
    """
    url = _url(compose, port)
    for _ in range(ATTEMPTS):
        async with AsyncExitStack() as exit_stack:
            if bus := await _try_to_connect(url, exit_stack):
                yield bus.connection.client
                return
        await asyncio.sleep(POLL_SECONDS)
    raise CommandError(
        "NATS does not reply, or has no JetStream", "see the log: `docker compose logs nats`"
    )


async def _try_to_connect(url: str, exit_stack: AsyncExitStack) -> hogsend.Client | None:
    """Connect and send a request to JetStream; return None if it does not reply yet.

    Raises:
        CommandError: NATS refuses the password, so waiting would not help.
    """
    # Without TLS: its settings in `.env` are for external servers, with paths inside containers.
    connecting = hogsend.connect(url, user=User.OPERATOR, tls=False, wait=2.0)
    try:
        bus = await exit_stack.enter_async_context(connecting)
    except Forbidden as error:
        raise CommandError(
            "NATS refuses the password in deploy/secrets/operator/nats_password: it runs with "
            "another one",
            "if the password was changed, run `hogsend compose upgrade`, which restarts NATS with "
            "it",
        ) from error
    except Unavailable:
        # The container was just started.
        return None
    return bus if await _is_ready(bus) else None


def _url(compose: Compose, port: int) -> str:
    file = compose.secrets / User.OPERATOR / "nats_password"
    try:
        password = file.read_text().strip()
    except OSError as error:
        raise CommandError(
            f"{file} cannot be read ({error.strerror})",
            "run `python3 deploy/generate_secrets.py`",
        ) from error
    return f"nats://{User.OPERATOR}:{quote(password, safe='')}@{compose.published('nats', port)}"


async def _is_ready(bus: hogsend.Client) -> bool:
    try:
        await bus.connection.js.account_info()
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
        return False
    return True
