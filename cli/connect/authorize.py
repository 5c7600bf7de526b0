"""Consent in the browser, and its exchange for a grant (contract 3.3 and 3.4)."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

from cli.admin.messages import Grant
from cli.connect.browser import open_browser
from cli.connect.exchange import exchange
from cli.connect.loopback import HOST, listening
from cli.terminal import Terminal
from hogsend.posthog.oauth_discovery import Endpoints
from hogsend.posthog.pkce import PkceSession, authorize_url

CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""What Docker and Podman put into a container; Kubernetes sets a variable."""


async def obtain_grant(
    endpoints: Endpoints,
    client_id: str,
    terminal: Terminal,
    *,
    browser: bool,
    consent_seconds: float,
) -> Grant:
    """Ask for consent, wait for the answer, exchange its code for tokens.

    The loopback server runs until the exchange is done, to answer a browser that reloads the page.

    Args:
        endpoints: of PostHog's OAuth server.
        client_id: address of the client document.
        terminal: shows the address to open, and progress.
        browser: whether to open a browser.
        consent_seconds: how long to wait for consent.

    Raises:
        ConnectError: no port is free, consent is denied or does not come in time, its state is
            wrong, or the exchange fails.
    """
    session = PkceSession()
    async with listening(session.state) as listener:
        url = authorize_url(
            endpoints.authorization_endpoint,
            client_id=client_id,
            redirect_uri=listener.redirect_uri,
            session=session,
        )
        await _show(url, listener.port, terminal, browser=browser)
        with terminal.busy(
            f"waiting for your answer in the browser, at most {consent_seconds:g} s"
        ):
            code = await listener.code(consent_seconds)
        terminal.step("access granted; exchanging the code for tokens")
        with terminal.busy("exchanging the code for tokens"):
            return await exchange(
                code,
                session,
                token_endpoint=endpoints.token_endpoint,
                redirect_uri=listener.redirect_uri,
                client_id=client_id,
            )


async def _show(url: str, port: int, terminal: Terminal, *, browser: bool) -> None:
    if browser and await open_browser(url):
        terminal.step(
            "approve the request in your browser; if none opened, press Ctrl-C and use --no-browser"
        )
        return
    if browser:
        terminal.warn("no browser could be opened on this machine")
    terminal.explain("Open this address in a browser and approve the request:")
    terminal.show_url(url)
    terminal.explain(_way_back(port))


def _way_back(port: int) -> str:
    # Under ssh, the third field is the address under which the user reached this machine.
    connection = os.environ.get("SSH_CONNECTION", "").split()
    is_ssh = len(connection) == 4  # noqa: PLR2004 - its four fields
    if not is_ssh and _is_container():
        return (
            f"PostHog's answer comes back to {HOST}:{port} in this container, which a browser "
            "outside of it does not reach, unless the container has the network of its host. "
            "Press Ctrl-C then, and run `hogsend connect posthog --url <address of the gateway>` "
            "on the machine with the browser.\n"
        )
    return (
        f"PostHog's answer comes back to {HOST}:{port} on this machine. If the browser runs on "
        "another one, first run there:\n\n  "
        f"{_forwarding(port, connection[2] if is_ssh else socket.gethostname())}\n"
    )


def _is_container() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(mark.exists() for mark in CONTAINER_MARKS)


def _forwarding(port: int, here: str) -> str:
    return f"ssh -N -L {port}:{HOST}:{port} {_user_at()}{here}"


def _user_at() -> str:
    try:
        return f"{getpass.getuser()}@"
    except (KeyError, OSError):
        # In a container that runs as a number there is no name for it.
        return ""
