"""The NATS servers of a deployment, reached from this machine as the operator."""

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
"""Where NATS listens while its streams are moved: no service looks there, and so the gateway keeps
what it accepts in its spool."""
MOVING: Mapping[str, str] = {
    "NATS_CLIENT_PORT": str(MOVING_PORT),
    "NATS_PUBLISH": f"127.0.0.1:{MOVING_PORT}",
}
ATTEMPTS = 240
"""How often a server is asked whether JetStream is ready, before it counts as away."""
POLL_SECONDS = 0.5


@asynccontextmanager
async def operator(compose: Compose, *, port: int = EVERYDAY_PORT) -> AsyncIterator[Client]:
    """Connect as the operator, once JetStream answers.

    Args:
        compose: the deployment.
        port: where the servers listen inside their containers.

    Raises:
        CommandError: it does not answer, or refuses the operator's password.
    """
    url = _url(compose, port)
    for _ in range(ATTEMPTS):
        async with AsyncExitStack() as closed_after:
            if bus := await _connected(url, closed_after):
                yield bus.connection.client
                return
        await asyncio.sleep(POLL_SECONDS)
    raise CommandError(
        "NATS does not answer, or has no JetStream", "look into `docker compose logs nats`"
    )


async def _connected(url: str, closed_after: AsyncExitStack) -> hogsend.Client | None:
    """Connect and ask JetStream; None while it does not answer.

    Raises:
        CommandError: NATS refuses the password, which waiting does not make right.
    """
    # What `.env` says of TLS is about NATS servers of the operator's own, with paths in containers.
    connecting = hogsend.connect(url, user=User.OPERATOR, tls=False, wait=2.0)
    try:
        bus = await closed_after.enter_async_context(connecting)
    except Forbidden as error:
        raise CommandError(
            "NATS refuses the password in deploy/secrets/operator/nats_password: it runs with "
            "another one",
            "if the password was changed, `hogsend compose upgrade` starts NATS with it",
        ) from error
    except Unavailable:
        # Not there yet: a container that has just been started.
        return None
    return bus if await _is_ready(bus) else None


def _url(compose: Compose, port: int) -> str:
    file = compose.secrets / User.OPERATOR / "nats_password"
    try:
        password = file.read_text().strip()
    except OSError as error:
        raise CommandError(
            f"{file} cannot be read ({error.strerror})", "run python3 deploy/generate_secrets.py"
        ) from error
    return f"nats://{User.OPERATOR}:{quote(password, safe='')}@{compose.published('nats', port)}"


async def _is_ready(bus: hogsend.Client) -> bool:
    try:
        await bus.connection.js.account_info()
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
        return False
    return True
