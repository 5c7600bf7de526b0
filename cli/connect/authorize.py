"""Consent in the browser, and the exchange of its code for a grant (contract 3.3 and 3.4)."""

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
"""Files that Docker and Podman create in every container. Kubernetes sets a variable instead."""


async def obtain_grant(
    endpoints: Endpoints,
    client_id: str,
    terminal: Terminal,
    *,
    browser: bool,
    consent_seconds: float,
) -> Grant:
    """Ask for consent in the browser, wait for the callback, and exchange its code for tokens.

    The loopback server runs until the exchange is done, so that reloading the page works.

    Args:
        endpoints: of PostHog's OAuth server.
        client_id: URL of the client document.
        terminal: shows the URL to open, and the progress.
        browser: whether to open a browser.
        consent_seconds: how long to wait for consent.

    Raises:
        ConnectError: no port is free, consent is denied or does not arrive in time, its `state` is
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
            f"waiting for your consent in the browser, at most {consent_seconds:g} s"
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
    terminal.explain("Open this URL in a browser and approve the request:")
    terminal.show_url(url)
    terminal.explain(_redirect_instructions(port))


def _redirect_instructions(port: int) -> str:
    """Explain how a browser on another machine reaches the loopback server."""
    # The third of four fields is the address at which the SSH client reached this machine.
    connection = os.environ.get("SSH_CONNECTION", "").split()
    is_ssh = len(connection) == 4  # noqa: PLR2004 - its four fields
    if not is_ssh and _is_container():
        return (
            f"PostHog then redirects the browser to {HOST}:{port} in this container. A browser "
            "outside the container cannot reach it, unless the container uses the network of its "
            "host. If so, press Ctrl-C and run `hogsend connect posthog --url <URL of the "
            "gateway>` on the machine with the browser.\n"
        )
    return (
        f"PostHog then redirects the browser to {HOST}:{port} on this machine. If the browser runs "
        "on another machine, first run there:\n\n  "
        f"{_ssh_command(port, connection[2] if is_ssh else socket.gethostname())}\n"
    )


def _is_container() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(mark.exists() for mark in CONTAINER_MARKS)


def _ssh_command(port: int, host: str) -> str:
    return f"ssh -N -L {port}:{HOST}:{port} {_user_prefix()}{host}"


def _user_prefix() -> str:
    try:
        return f"{getpass.getuser()}@"
    except (KeyError, OSError):
        # A container that runs as a numeric user id has no user name.
        return ""
